"""The template, read as text: what every deployment can rely on whatever target it goes to."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from infra import deploy, package
from ingest import keys
from ingest.errors import BadInput
from ingest.settings import SETTINGS

ROOT = Path(__file__).resolve().parent.parent.parent
ROLES = {
    "StoreReadings": "StoreReadingsRole",
    "ArchiveExpired": "ArchiveExpiredRole",
    "IndexSegment": "IndexSegmentRole",
    "CompactArchive": "CompactArchiveRole",
    "ServeApi": "ServeApiRole",
}
TAILS = {"/rejects/*", "/aws/lambda/*", "/stream/*", "/readings/*", "/blobs/*", "/staging/*"}
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
    assert len(deploy.template().encode()) < 51_200  # CreateStack's limit for TemplateBody
    assert yaml.load(deploy.template(), _Loader) == template, "only comments are left out"
    assert len(template["Parameters"]) <= 200


def test_every_parameter_is_described_used_and_has_a_default_unless_it_names_code(
    template: dict[str, Any],
) -> None:
    used = set(references({"r": template["Resources"], "c": template["Conditions"]}))
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"].endswith((".", ";")), name
        assert name in used, name
        needed = {"CodeBucket", "StoreCodeKey", "ArchiveCodeKey", "ApiCodeKey"}
        assert ("Default" in parameter) == (name not in needed), name


def test_the_runtimes_offered_are_ones_that_packages_are_built_for(template: dict[str, Any]) -> None:
    offered = template["Parameters"]["Runtime"]["AllowedValues"]
    assert {one.removeprefix("python") for one in offered} <= set(package.PYTHON_VERSIONS)


@pytest.mark.parametrize("role", ROLES.values())
def test_a_role_allows_named_actions_on_named_resources(resources: dict[str, Any], role: str) -> None:
    for sid, actions, targets in statements(resources, role):
        assert not [action for action in actions if "*" in action], sid
        for target in targets:
            named = json.loads(target)
            # Reading metrics cannot be allowed for some of them ("Actions ... for Amazon CloudWatch").
            assert named != "*" or actions == ["cloudwatch:GetMetricData"], sid
            if isinstance(named, dict) and "Sub" in named and named["Sub"].endswith("*"):
                assert named["Sub"].rpartition("}")[2] in TAILS, (sid, target)


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
    assert deleting == {"ArchiveExpired", "CompactArchive", "ServeApi"}
    objects = [
        (name, target.rpartition("}")[0].rpartition("}")[2])
        for name, role in ROLES.items()
        for _, actions, targets in statements(resources, role)
        for target in targets
        if "s3:DeleteObject" in actions
    ]
    assert objects == [("CompactArchive", '/readings/*"'), ("ServeApi", '/staging/*"')]
    for name, role in ROLES.items():
        text = json.dumps([targets for _, _, targets in statements(resources, role)])
        assert ("-archive-" in text) == (name != "StoreReadings")
        assert ("RejectsBucket" in text) == (name in ("StoreReadings", "ServeApi"))


def test_the_api_writes_registry_tokens_and_blobs_and_only_reads_the_rest(resources: dict[str, Any]) -> None:
    writing = ("Put", "Update", "Delete", "Write", "Abort")
    changes = {
        sid: actions
        for sid, actions, _ in statements(resources, "ServeApiRole")
        if any(word in action for action in actions for word in writing)
    }
    assert set(changes) == {"ChangeRegistryAndTokens", "SendReadings", "KeepBlobs", "TakeInBlobs", "Log"}
    assert changes["SendReadings"] == ["kinesis:PutRecords"]
    (one,) = [
        statement
        for policy in resources["ServeApiRole"]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Sid"] == "ChangeRegistryAndTokens"
    ]
    partitions = one["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
    written = [
        keys.sensor_key("press-7"),
        keys.registry_changes_key(),
        keys.token_key("a"),
        keys.signing_secret_key(),
    ]
    assert all(any(fnmatchcase(key.pk, pattern) for pattern in partitions) for key in written)
    kept = [
        keys.layout_key(),
        keys.ticket_key(0),
        keys.manifest_key(0, "a", 0),
        keys.chunk_key("a", 0, "b", 0),
    ]
    assert not any(fnmatchcase(key.pk, pattern) for key in kept for pattern in partitions)


DECIDING = {"StoreReadings", "ServeApi"}
LOCAL_ONLY = {"THERMOCLINE_CONTROL_URL", "THERMOCLINE_CONTROL_TOKEN"}
API_ONLY = {"THERMOCLINE_STREAM", "THERMOCLINE_AUTH", "THERMOCLINE_WRITE_UNIT_USD"}
CHUNKS_ONLY = {"THERMOCLINE_CODEC", "THERMOCLINE_CHUNK_GRACE_S", "THERMOCLINE_COMPACT_GRACE_S"}


def test_every_setting_is_one_that_some_function_gets_or_has_a_default_everywhere() -> None:
    known = LOCAL_ONLY | API_ONLY | CHUNKS_ONLY | {"THERMOCLINE_LANES", "THERMOCLINE_UNKNOWN_SENSORS"}
    assert set(SETTINGS) - known == {
        "THERMOCLINE_TABLE",
        "THERMOCLINE_ARCHIVE_BUCKET",
        "THERMOCLINE_REJECTS_BUCKET",
        "THERMOCLINE_STACK",
    }


def test_handlers_exist_and_get_every_setting(resources: dict[str, Any]) -> None:
    for name, function in of_type(resources, "AWS::Lambda::Function").items():
        file, _, attribute = function["Handler"].rpartition(".")
        tree = ast.parse((ROOT / f"{file.replace('.', '/')}.py").read_text())
        assert attribute in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name
        variables = function["Environment"]["Variables"]
        own = {variable for variable in variables if variable.startswith("THERMOCLINE_")}
        wanted = set(SETTINGS) - LOCAL_ONLY - {"THERMOCLINE_LANES"}
        wanted -= CHUNKS_ONLY if name == "ServeApi" else API_ONLY
        assert own == wanted - (set() if name in DECIDING else {"THERMOCLINE_UNKNOWN_SENSORS"}), name
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

    cold = {"Ref": "ColdRetentionDays"}
    assert expiring("ArchiveBucket") == {"readings/": cold, "blobs/": cold, "staging/": 1}
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
    ("Thermocline", "DatesOverdue"): ["compact_archive"],
    ("Thermocline", "Rejects"): ["store_readings"],
    ("AWS/Lambda", "IteratorAge"): ["ArchiveExpired", "StoreReadings"],
    ("AWS/Lambda", "Throttles"): ["ArchiveExpired", "IndexSegment", "ServeApi", "StoreReadings"],
    ("AWS/Lambda", "Url5xxCount"): ["ServeApi"],
    ("AWS/ApiGateway", "5xx"): ["Api"],
    ("AWS/Lambda", "OnFailureDestinationDeliveredEventCount"): ["StoreReadingsMapping"],
    ("AWS/Lambda", "DroppedEventCount"): ["StoreReadingsMapping"],
    ("AWS/DynamoDB", "WriteThrottleEvents"): ["Table"],
    ("AWS/Kinesis", "WriteProvisionedThroughputExceeded"): ["Stream"],
}
DIMENSION = {
    "StoreReadings": "FunctionName",
    "ArchiveExpired": "FunctionName",
    "IndexSegment": "FunctionName",
    "ServeApi": "FunctionName",
    "Api": "ApiId",
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
    assert ours <= reported | metric_names("lambdas/compact_archive.py")
    assert ours - {"ArchiveLagS", "DatesOverdue"} <= names, "what `status` reads from CloudWatch"


# --- the API's front --------------------------------------------------------------------


def test_the_http_api_lets_everything_through_to_the_function_and_throttles(
    resources: dict[str, Any],
) -> None:
    assert "CorsConfiguration" not in resources["Api"]["Properties"]
    integration = resources["ApiIntegration"]["Properties"]
    assert integration["IntegrationUri"] == {"GetAtt": ["ServeApi", "Arn"]}
    assert integration["PayloadFormatVersion"] == "2.0"
    route = resources["ApiRoute"]["Properties"]
    assert route["RouteKey"] == "$default"
    assert route["AuthorizationType"] == {"If": ["JwtAuth", "JWT", {"If": ["IamAuth", "AWS_IAM", "NONE"]}]}
    stage = resources["ApiStage"]["Properties"]
    assert (stage["StageName"], stage["AutoDeploy"]) == ("$default", True)
    assert set(stage["DefaultRouteSettings"]) == {"ThrottlingRateLimit", "ThrottlingBurstLimit"}
    logged = stage["AccessLogSettings"]["Format"]
    assert json.loads(logged)["status"] == "$context.status"
    assert not [word for word in ("header", "query", "authorizer", "Authorization") if word in logged]
    assert resources["ServeApi"]["Properties"]["Timeout"] < 30, "an HTTP API waits no longer"


def test_only_pages_without_data_pass_a_jwt_authorizer_unasked(resources: dict[str, Any]) -> None:
    routes = {name: one for name, one in resources.items() if one["Type"] == "AWS::ApiGatewayV2::Route"}
    unasked = {name for name, one in routes.items() if one["Properties"]["AuthorizationType"] == "NONE"}
    assert {routes[name]["Properties"]["RouteKey"] for name in unasked} == {"GET /", "GET /{file}"}
    assert {routes[name]["Condition"] for name in unasked} == {"JwtFront"}


def test_there_is_one_front_or_none_and_it_alone_may_call_the_function(template: dict[str, Any]) -> None:
    resources, conditions = template["Resources"], template["Conditions"]
    fronts = {
        name: one["Condition"]
        for name, one in resources.items()
        if one["Type"].startswith(("AWS::ApiGatewayV2", "AWS::Lambda::Url"))
    }
    assert set(fronts.values()) == {"HttpApiFront", "UrlFront", "JwtFront"}
    assert conditions["HttpApiFront"] == {"Equals": [{"Ref": "ApiFront"}, "http-api"]}
    assert conditions["UrlFront"] == {"Equals": [{"Ref": "ApiFront"}, "function-url"]}
    permitted = {
        name: one
        for name, one in resources.items()
        if one["Type"] == "AWS::Lambda::Permission"
        and one["Properties"]["FunctionName"] == {"Ref": "ServeApi"}
    }
    assert permitted["ApiPermission"]["Properties"]["SourceArn"]["Sub"].endswith(":${Api}/*")
    open_to_all = [name for name, one in permitted.items() if one["Properties"]["Principal"] == "*"]
    assert {permitted[name]["Condition"] for name in open_to_all} == {"OpenUrl"}
    assert permitted["ServeApiUrlPermission"]["Properties"]["FunctionUrlAuthType"] == "NONE"
    assert permitted["ServeApiInvokePermission"]["Properties"]["InvokedViaFunctionUrl"] is True
    assert "Cors" not in resources["ServeApiUrl"]["Properties"]


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"ApiAuth": "jwt", "ApiFront": "function-url", "JwtIssuer": "https://issuer.example"}, "ApiFront"),
        ({"ApiAuth": "jwt"}, "JwtIssuer"),
    ],
)
def test_a_jwt_authorizer_that_could_not_work_is_refused(parameters: dict[str, str], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        deploy.check_front(parameters)
    deploy.check_front({"ApiAuth": "jwt", "JwtIssuer": "https://issuer.example"})
    deploy.check_front({"ApiAuth": "iam", "ApiFront": "function-url"})


def test_the_price_of_a_write_unit_is_the_region_s_or_left_out(template: dict[str, Any]) -> None:
    pattern = template["Parameters"]["WriteUnitUsd"]["AllowedPattern"]
    assert deploy.write_unit_usd("us-east-1") == "0.625"
    assert deploy.write_unit_usd("nowhere-1") == ""
    assert all(re.fullmatch(pattern, text) for text in ("0.625", "", "1"))


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
