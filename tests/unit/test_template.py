"""The template, read as text: what every deployment can rely on whatever target it goes to."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from infra import deploy, package
from ingest import keys
from ingest.settings import SETTINGS

ROOT = Path(__file__).resolve().parent.parent.parent
ROLES = {
    "StoreReadings": "StoreReadingsRole",
    "ArchiveExpired": "ArchiveExpiredRole",
    "IndexSegment": "IndexSegmentRole",
    "CompactArchive": "CompactArchiveRole",
}
BUCKETS = ("ArchiveBucket", "RejectsBucket")
ARCHIVE = "${AWS::StackName}-archive-${AWS::AccountId}-${AWS::Region}"


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, as the long forms they stand for."""


def _long_form(loader: Any, suffix: str, node: Any) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        return {suffix: value.split(".", 1) if suffix == "GetAtt" else value}
    return {suffix: loader.construct_sequence(node, deep=True)}


_Loader.add_multi_constructor("!", _long_form)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return cast(dict[str, Any], yaml.load(deploy.TEMPLATE.read_text(), _Loader))


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    return cast(dict[str, Any], template["Resources"])


def of_type(resources: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {name: one["Properties"] for name, one in resources.items() if one["Type"] == kind}


def statements(resources: Mapping[str, Any], role: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Sid, actions and resources (as text) of every statement of a role."""
    for policy in resources[role]["Properties"]["Policies"]:
        for one in policy["PolicyDocument"]["Statement"]:
            assert one["Effect"] == "Allow"
            actions, targets = one["Action"], one["Resource"]
            yield (
                one["Sid"],
                actions if isinstance(actions, list) else [actions],
                [json.dumps(t) for t in (targets if isinstance(targets, list) else [targets])],
            )


def references(value: Any) -> Iterator[str]:
    """Every name that a value refers to, by Ref, GetAtt, If or Sub."""
    if isinstance(value, dict):
        for name, inner in cast(dict[str, Any], value).items():
            if name in ("Ref", "GetAtt"):
                yield inner if isinstance(inner, str) else inner[0]
            elif name == "Sub":
                yield from (part.split("}")[0].split(".")[0] for part in inner.split("${")[1:])
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in cast(list[Any], value):
            yield from references(inner)


def test_it_is_plain_cloudformation_that_fits_into_one_call(template: dict[str, Any]) -> None:
    assert "Transform" not in template
    assert len(deploy.TEMPLATE.read_bytes()) < 51_200  # CreateStack's limit for TemplateBody
    assert len(template["Parameters"]) <= 200


def test_every_parameter_is_described_used_and_has_a_default_unless_it_names_code(
    template: dict[str, Any],
) -> None:
    used = set(references({"r": template["Resources"], "c": template["Conditions"]}))
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"].endswith((".", ";")), name
        assert name in used, name
        assert ("Default" in parameter) == (name not in {"CodeBucket", "StoreCodeKey", "ArchiveCodeKey"}), (
            name
        )


def test_the_runtimes_offered_are_ones_that_packages_are_built_for(template: dict[str, Any]) -> None:
    offered = template["Parameters"]["Runtime"]["AllowedValues"]
    assert {one.removeprefix("python") for one in offered} <= set(package.PYTHON_VERSIONS)


@pytest.mark.parametrize("role", ROLES.values())
def test_a_role_allows_named_actions_on_named_resources(resources: dict[str, Any], role: str) -> None:
    for sid, actions, targets in statements(resources, role):
        assert not [action for action in actions if "*" in action], sid
        for target in targets:
            named = json.loads(target)
            assert named != "*", sid
            if isinstance(named, dict) and "Sub" in named and named["Sub"].endswith("*"):
                tail = named["Sub"].rpartition("}")[2]
                assert tail in {"/rejects/*", "/aws/lambda/*", "/stream/*", "/readings/*"}, (sid, target)


def test_every_function_has_a_role_and_a_log_of_its_own(resources: dict[str, Any]) -> None:
    functions = of_type(resources, "AWS::Lambda::Function")
    assert set(functions) == set(ROLES)
    for name, function in functions.items():
        assert function["Role"] == {"GetAtt": [ROLES[name], "Arn"]}
        log = function["LoggingConfig"]["LogGroup"]["Ref"]
        group = resources[log]["Properties"]
        assert group["LogGroupName"] == {"Sub": "/aws/lambda/" + function["FunctionName"]["Sub"]}
        logs = [
            targets for _, actions, targets in statements(resources, ROLES[name]) if "logs:" in actions[0]
        ]
        assert logs == [[json.dumps({"GetAtt": [log, "Arn"]})]]


def test_only_archiver_and_compaction_may_delete_and_nobody_may_touch_the_other_ones_bucket(
    resources: dict[str, Any],
) -> None:
    deleting = {
        name
        for name, role in ROLES.items()
        for _, actions, _ in statements(resources, role)
        if any("Delete" in action for action in actions)
    }
    assert deleting == {"ArchiveExpired", "CompactArchive"}
    objects = [
        name
        for name, role in ROLES.items()
        for _, actions, _ in statements(resources, role)
        if "s3:DeleteObject" in actions
    ]
    assert objects == ["CompactArchive"]
    for name, role in ROLES.items():
        text = json.dumps([targets for _, _, targets in statements(resources, role)])
        assert ("-archive-" in text) == (name != "StoreReadings")
        assert ("RejectsBucket" in text) == (name == "StoreReadings")


def test_handlers_exist_and_get_every_setting(resources: dict[str, Any]) -> None:
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        file, _, attribute = function["Handler"].rpartition(".")
        tree = ast.parse((ROOT / f"{file.replace('.', '/')}.py").read_text())
        assert attribute in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name
        variables = function["Environment"]["Variables"]
        own = {variable for variable in variables if variable.startswith("THERMOCLINE_")}
        assert own == set(SETTINGS), name
        assert variables["POWERTOOLS_METRICS_NAMESPACE"] == "Thermocline"
        assert variables["POWERTOOLS_SERVICE_NAME"] == file.rpartition(".")[2]
        assert not [variable for variable in variables if "ENDPOINT" in variable], name


def test_the_table_streams_its_keys_expires_and_can_be_restored(resources: dict[str, Any]) -> None:
    table = resources["Table"]["Properties"]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert [(part["AttributeName"], part["KeyType"]) for part in table["KeySchema"]] == [
        ("pk", "HASH"),
        ("sk", "RANGE"),
    ]
    assert table["StreamSpecification"] == {"StreamViewType": "KEYS_ONLY"}
    assert table["TimeToLiveSpecification"] == {"AttributeName": deploy.TTL_ATTRIBUTE, "Enabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["DeletionProtectionEnabled"] == {"If": ["Protected", True, False]}


def test_what_holds_readings_is_never_replaced_away(resources: dict[str, Any]) -> None:
    for name in ("Table", *BUCKETS):
        assert resources[name]["UpdateReplacePolicy"] == "Retain", name


def test_the_stream_is_encrypted(resources: dict[str, Any]) -> None:
    assert resources["Stream"]["Properties"]["StreamEncryption"] == {
        "EncryptionType": "KMS",
        "KeyId": "alias/aws/kinesis",
    }


@pytest.mark.parametrize("name", BUCKETS)
def test_a_bucket_is_encrypted_private_and_refuses_plain_http(resources: dict[str, Any], name: str) -> None:
    bucket = resources[name]["Properties"]
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    (policy,) = [
        one for one in of_type(resources, "AWS::S3::BucketPolicy").values() if one["Bucket"] == {"Ref": name}
    ]
    (deny,) = policy["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "s3:*")
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert {target["Sub"].rpartition("}")[2] for target in deny["Resource"]} == {"", "/*"}


def test_lifecycles_cover_what_is_written_and_nothing_else(resources: dict[str, Any]) -> None:
    def expiring(name: str) -> dict[str, Any]:
        rules = resources[name]["Properties"]["LifecycleConfiguration"]["Rules"]
        assert {rule["Status"] for rule in rules} == {"Enabled"}
        assert [r for r in rules if "AbortIncompleteMultipartUpload" in r and "ExpirationInDays" not in r]
        return {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}

    assert expiring("ArchiveBucket") == {"readings/": {"Ref": "ColdRetentionDays"}}
    assert keys.SEGMENT_PREFIX.startswith("readings/")
    days = {"Ref": "RejectRetentionDays"}
    assert expiring("RejectsBucket") == {keys.REJECT_PREFIX: days, keys.FAILED_BATCH_PREFIX: days}


def test_the_batch_mapping_says_everything_it_must(resources: dict[str, Any]) -> None:
    assert resources["StoreReadingsMapping"]["Properties"] == {
        "Enabled": {"If": ["EventSourcesOn", True, False]},
        "EventSourceArn": {"GetAtt": ["Stream", "Arn"]},
        "FunctionName": {"Ref": "StoreReadings"},
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": {"Ref": "BatchSize"},
        "MaximumBatchingWindowInSeconds": {"Ref": "WindowS"},
        "ParallelizationFactor": {"Ref": "ParallelizationFactor"},
        "BisectBatchOnFunctionError": True,
        "MaximumRecordAgeInSeconds": 20 * 3600,
        "MaximumRetryAttempts": -1,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "DestinationConfig": {"OnFailure": {"Destination": {"GetAtt": ["RejectsBucket", "Arn"]}}},
        "MetricsConfig": {"Metrics": ["EventCount"]},
    }


def test_the_archive_mapping_lets_only_removed_tickets_through(resources: dict[str, Any]) -> None:
    mapping = resources["ArchiveExpiredMapping"]["Properties"]
    (one,) = mapping["FilterCriteria"]["Filters"]
    assert json.loads(one["Pattern"]) == {
        "eventName": ["REMOVE"],
        "dynamodb": {"Keys": {"pk": {"S": [{"prefix": keys.TICKET_PREFIX}]}}},
    }
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["BatchSize"] <= 10
    assert (mapping["MaximumRetryAttempts"], mapping["MaximumRecordAgeInSeconds"]) == (-1, 20 * 3600)
    assert "FunctionResponseTypes" not in mapping


def test_the_schedule_sends_what_the_archiver_understands(resources: dict[str, Any]) -> None:
    rule = resources["OverdueSchedule"]["Properties"]
    (target,) = rule["Targets"]
    source = ast.parse((ROOT / "lambdas/archive_expired.py").read_text())
    assert json.loads(target["Input"]) == {"source": _constant(source, "SCHEDULE_SOURCE")}
    assert target["Arn"] == {"GetAtt": ["ArchiveExpired", "Arn"]}
    permission = resources["OverdueSchedulePermission"]["Properties"]
    assert permission["SourceArn"] == {"GetAtt": ["OverdueSchedule", "Arn"]}
    assert permission["FunctionName"] == {"Ref": "ArchiveExpired"}


def test_the_archive_is_compacted_on_a_schedule(resources: dict[str, Any]) -> None:
    rule = resources["CompactRule"]["Properties"]
    (target,) = rule["Targets"]
    assert target["Arn"] == {"GetAtt": ["CompactArchive", "Arn"]}
    assert rule["State"] == {"If": ["EventSourcesOn", "ENABLED", "DISABLED"]}
    permission = resources["CompactSchedulePermission"]["Properties"]
    assert permission["SourceArn"] == {"GetAtt": ["CompactRule", "Arn"]}
    assert permission["FunctionName"] == {"Ref": "CompactArchive"}


def test_the_archive_tells_the_index_and_only_that_bucket_may(resources: dict[str, Any]) -> None:
    bucket = resources["ArchiveBucket"]
    (told,) = bucket["Properties"]["NotificationConfiguration"]["LambdaConfigurations"]
    assert (told["Event"], told["Function"]) == ("s3:ObjectCreated:*", {"GetAtt": ["IndexSegment", "Arn"]})
    assert told["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "readings/"}]
    assert bucket["DependsOn"] == "IndexSegmentPermission"
    permission = resources["IndexSegmentPermission"]["Properties"]
    assert bucket["Properties"]["BucketName"] == {"Sub": ARCHIVE}
    assert permission["SourceArn"] == {"Sub": "arn:${AWS::Partition}:s3:::" + ARCHIVE}
    assert permission["SourceAccount"] == {"Ref": "AWS::AccountId"}


def test_the_late_alarm_watches_what_the_archiver_reports(resources: dict[str, Any]) -> None:
    alarm = resources["ArchiveLateAlarm"]["Properties"]
    source = ast.parse((ROOT / "lambdas/archive_expired.py").read_text())
    assert alarm["Namespace"] == "Thermocline"
    reported = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)}
    assert alarm["MetricName"] in reported
    assert alarm["Threshold"] == {"Ref": "LateAfterS"}
    assert alarm["TreatMissingData"] == "breaching"  # an archiver that cannot start reports nothing


WATCHED: dict[tuple[str, str], list[str]] = {
    # metric                                               of what
    ("Thermocline", "ArchiveLagS"): ["archive_expired"],
    ("Thermocline", "ChunksLost"): ["archive_expired"],
    ("Thermocline", "Rejects"): ["store_readings"],
    ("AWS/Lambda", "IteratorAge"): ["ArchiveExpired", "StoreReadings"],
    ("AWS/Lambda", "Throttles"): ["ArchiveExpired", "IndexSegment", "StoreReadings"],
    ("AWS/Lambda", "OnFailureDestinationDeliveredEventCount"): ["StoreReadingsMapping"],
    ("AWS/Lambda", "DroppedEventCount"): ["StoreReadingsMapping"],
    ("AWS/DynamoDB", "WriteThrottleEvents"): ["Table"],
    ("AWS/Kinesis", "WriteProvisionedThroughputExceeded"): ["Stream"],
}
DIMENSION = {
    "StoreReadings": "FunctionName",
    "ArchiveExpired": "FunctionName",
    "IndexSegment": "FunctionName",
    "StoreReadingsMapping": "EventSourceMappingUUID",
    "Table": "TableName",
    "Stream": "StreamName",
}


def test_everything_that_threatens_a_reading_has_an_alarm(resources: dict[str, Any]) -> None:
    watched: dict[tuple[str, str], list[str]] = {}
    for name, alarm in of_type(resources, "AWS::CloudWatch::Alarm").items():
        first, *others = alarm["Dimensions"]
        if alarm["Namespace"] == "Thermocline":
            assert first["Name"] == "service"
            assert others == [{"Name": "stack", "Value": {"Ref": "AWS::StackName"}}], name
            of = first["Value"]
        else:
            of = first["Value"]["Ref"]
            assert (first["Name"], others) == (DIMENSION[of], []), name
        watched.setdefault((alarm["Namespace"], alarm["MetricName"]), []).append(of)
    assert {metric: sorted(of) for metric, of in watched.items()} == WATCHED


def test_every_alarm_rings_somewhere_and_says_what_to_look_at(template: dict[str, Any]) -> None:
    topic = {"If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}
    for name, alarm in of_type(template["Resources"], "AWS::CloudWatch::Alarm").items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == topic, name
        assert "Metrics" not in alarm, f"{name}: the embedded emulator refuses metric math"
        assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
        late = alarm["MetricName"] == "ArchiveLagS"
        assert alarm["TreatMissingData"] == ("breaching" if late else "notBreaching"), name
        is_level = alarm["MetricName"] in ("IteratorAge", "ArchiveLagS")
        assert alarm["Statistic"] == ("Maximum" if is_level else "Sum"), name
        assert len(alarm["AlarmDescription"]) > 60, name
        threshold = alarm["Threshold"]
        if threshold != 1:  # a single lost chunk or batch is one too many; the rest is for the owner to say
            assert template["Parameters"][threshold["Ref"]]["Default"] > 1, name
    assert template["Parameters"]["IteratorAgeMs"]["Default"] == 6 * 3600 * 1000


def test_our_metrics_are_the_ones_that_are_watched_and_read(resources: dict[str, Any]) -> None:
    names = metric_names("infra/doctor/metrics.py")
    ours = {name for namespace, name in WATCHED if namespace == "Thermocline"} | {"ReadingsStored"}
    reported = metric_names("lambdas/store_readings.py") | metric_names("lambdas/archive_expired.py")
    assert ours <= reported
    assert ours - {"ArchiveLagS"} <= names, "what `status` reads from CloudWatch"


def metric_names(path: str) -> set[object]:
    """Every constant text of a source file."""
    source = ast.parse((ROOT / path).read_text())
    return {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)}


def _constant(tree: ast.Module, name: str) -> object:
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == name
        ):
            return ast.literal_eval(node.value)
    raise AssertionError(f"{name} is not a constant of the module")
