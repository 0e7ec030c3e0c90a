"""What sends: a made-up fleet, files played back, and the publisher that puts runs into Kinesis."""
