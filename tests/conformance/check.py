"""kafka-python with its defaults: create, produce in every way, read it all back from offsets and timestamps."""

import sys
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

PARTITIONS = 6
COUNT = 60


def main(bootstrap, topic):
    servers = bootstrap.split(",")
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([NewTopic(name=topic, num_partitions=PARTITIONS, replication_factor=1)])

    sent = {}
    at_key = {}
    began = int(time.time() * 1000)
    for acks in (0, 1, "all"):
        for codec in (None, "gzip", "snappy", "lz4", "zstd"):
            # Idempotence is for acks=all only; without a word of ours the client decides by itself.
            options = {} if acks == "all" else {"enable_idempotence": False}
            try:
                producer = KafkaProducer(bootstrap_servers=servers, acks=acks, compression_type=codec, **options)
            except Exception as error:  # older versions have no such setting
                if "enable_idempotence" not in str(error):
                    raise
                producer = KafkaProducer(bootstrap_servers=servers, acks=acks, compression_type=codec)
            for n in range(COUNT):
                for way in ("key", "any", "to"):
                    value = f"{acks} {codec} {way} {n}"
                    key = f"key-{n % 7}".encode() if way == "key" else None
                    partition = n % PARTITIONS if way == "to" else None
                    future = producer.send(topic, value.encode(), key=key, partition=partition)
                    sent[value] = (way, n, future)
            producer.flush(60)
            if acks != 0:
                for value, (way, n, future) in list(sent.items()):
                    if value.startswith(f"{acks} {codec} "):
                        at = future.get(30)
                        if way == "to":
                            assert at.partition == n % PARTITIONS, value
                        if way == "key":
                            assert at_key.setdefault(n % 7, at.partition) == at.partition, value
            producer.close()
    print(f"produced {len(sent)}")

    consumer = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False)
    partitions = [TopicPartition(topic, n) for n in range(PARTITIONS)]
    deadline = time.time() + 60
    while sum(consumer.end_offsets(partitions).values()) < len(sent):
        assert time.time() < deadline, "not everything arrived"
        time.sleep(0.1)
    ends = consumer.end_offsets(partitions)
    starts = consumer.beginning_offsets(partitions)
    assert all(start == 0 for start in starts.values()), starts

    def read(where):
        """Everything from the given offsets on."""
        consumer.assign(list(where))
        for partition, offset in where.items():
            consumer.seek(partition, offset)
        left = {p: ends[p] for p, offset in where.items() if offset < ends[p]}
        got = {p: [] for p in where}
        deadline = time.time() + 60
        while left:
            assert time.time() < deadline, f"missing {left}"
            for partition, records in consumer.poll(200).items():
                got[partition] += records
                if partition in left and got[partition][-1].offset + 1 >= left[partition]:
                    del left[partition]
        return got

    everything = read({p: 0 for p in partitions})
    values = [record.value.decode() for records in everything.values() for record in records]
    assert sorted(values) == sorted(sent), "what was read is not what was sent"
    for partition, records in everything.items():
        assert [r.offset for r in records] == list(range(len(records))), partition
    print(f"read {len(values)}, offsets without holes")

    middle = {p: ends[p] // 2 for p in partitions if ends[p]}
    for partition, records in read(middle).items():
        assert records[0].offset == middle[partition], partition
        assert len(records) == ends[partition] - middle[partition], partition
    print("read from offsets in the middle")

    some = max(everything, key=lambda p: len(everything[p]))
    wanted = everything[some][len(everything[some]) // 2].timestamp
    first = next(r.offset for r in everything[some] if r.timestamp >= wanted)
    found = consumer.offsets_for_times({some: wanted, **{p: began - 1000 for p in partitions if p != some and ends[p]}})
    assert found[some].offset == first, (found[some], first)
    assert all(at.offset == 0 for p, at in found.items() if p != some), found
    assert consumer.offsets_for_times({some: began + 3_600_000})[some] is None
    print("read from timestamps")


main(*sys.argv[1:])
