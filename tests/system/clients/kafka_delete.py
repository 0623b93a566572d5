"""Deletes the records of PARTITION below OFFSET, and prints where it begins then."""

import sys

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

WITHIN_S = 30

bootstrap, topic, partition, offset = sys.argv[1:]
wanted = TopicPartition(topic, int(partition), int(offset))
admin = AdminClient({"bootstrap.servers": bootstrap})
for future in admin.delete_records([wanted], request_timeout=WITHIN_S).values():
    print(future.result(WITHIN_S).low_watermark)
