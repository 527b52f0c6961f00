"""kafka-python behind the commands of ../README.md."""

import json
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.errors import KafkaError

PATIENCE_SECONDS = 60


def create(servers, command):
    admin = KafkaAdminClient(bootstrap_servers=servers)
    try:
        admin.create_topics([NewTopic(command["topic"], command["partitions"], 1)])
    finally:
        admin.close()
    return {}


def produce(servers, command):
    settings = {}
    if command["acks"] is not None:
        settings["acks"] = command["acks"] if command["acks"] == "all" else int(command["acks"])
        # The default of this client asks for idempotence, which it refuses to combine with less than all.
        if command["acks"] != "all":
            settings["enable_idempotence"] = False
    if command["codec"] not in (None, "none"):
        settings["compression_type"] = command["codec"]
    producer = KafkaProducer(bootstrap_servers=servers, **settings)
    try:
        futures = []
        for record in command["records"]:
            key = record["key"].encode() if record["key"] is not None else None
            value = record["value"].encode()
            futures.append(producer.send(command["topic"], value, key=key, partition=record["partition"]))
        producer.flush(PATIENCE_SECONDS)
        placed = [future.get(PATIENCE_SECONDS) for future in futures]
    finally:
        producer.close()
    # Without an acknowledgement this client makes an offset up.
    known = command["acks"] != "0"
    return {"placed": [[at.partition, at.offset if known else -1] for at in placed]}


def read(servers, command):
    consumer = KafkaConsumer(bootstrap_servers=servers)
    try:
        return {"records": list(read_with(consumer, command))}
    finally:
        consumer.close()


def read_with(consumer, command):
    partitions = []
    for topic in command["topics"]:
        partitions += [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    ends = consumer.end_offsets(partitions)
    if command["from"] == "timestamp":
        found = consumer.offsets_for_times({partition: command["value"] for partition in partitions})
        starts = {partition: at.offset if at else ends[partition] for partition, at in found.items()}
    elif command["from"] == "offset":
        starts = {partition: command["value"] for partition in partitions}
    else:
        starts = consumer.beginning_offsets(partitions)
    consumer.assign(partitions)
    for partition, offset in starts.items():
        consumer.seek(partition, offset)
    unread = {partition for partition in partitions if starts[partition] < ends[partition]}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while unread:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not read to their ends: {unread}")
        for partition, records in consumer.poll(timeout_ms=200).items():
            for record in records:
                if record.offset < ends[partition]:
                    yield received(record)
                if record.offset + 1 >= ends[partition]:
                    unread.discard(partition)


ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}


def group(servers, command):
    members, read = [], []
    # Side by side and not for short: a member whose rebalance is over between two polls begins another one (3.0.12), and where
    # one polls after the other, that is each time.
    pool = ThreadPoolExecutor()

    def poll(member):
        return member.poll(timeout_ms=1000)

    def join():
        assignor = ASSIGNORS[command["assignor"]]
        member = KafkaConsumer(
            command["topic"],
            bootstrap_servers=servers,
            group_id=command["group"],
            auto_offset_reset="earliest",
            partition_assignment_strategy=[assignor],
        )
        members.append(member)
        read.append([])

    def poll_until(done):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            if time.monotonic() > deadline:
                assigned = [member.assignment() for member in members]
                raise TimeoutError(f"read {count()} records, assigned {assigned}")
            for polled, its in zip(pool.map(poll, members), read):
                for records in polled.values():
                    its += map(received, records)

    def count():
        """Records, however often they were read."""
        return len({(record["partition"], record["offset"]) for its in read for record in its})

    def shared():
        sizes = [len(member.assignment()) for member in members]
        return all(sizes) and sum(sizes) == len(members[0].partitions_for_topic(command["topic"]))

    def committed():
        """Commits, and says whether that is where the reading of every partition has come to.

        A member that had to join again may be behind what others read, or be told that its generation is over.
        """
        ends = {}
        for its in read:
            for record in its:
                ends[record["partition"]] = max(ends.get(record["partition"], 0), record["offset"] + 1)
        try:
            for member in members:
                member.commit()
                for at in member.assignment():
                    if at.partition in ends and member.committed(at) != ends[at.partition]:
                        return False
        except KafkaError as error:
            print(repr(error), file=sys.stderr, flush=True)
            return False
        return True

    try:
        join()
        poll_until(lambda: count() >= command["before"])
        if command["records"]:
            join()
            poll_until(shared)
            produce(servers, command)
        wanted = command["before"] + len(command["records"])
        poll_until(lambda: count() >= wanted and shared() and committed())
        assigned = [sorted(at.partition for at in member.assignment()) for member in members]
        return {"read": read, "assigned": assigned}
    finally:
        for member in members:
            member.close()
        pool.shutdown()


def received(record):
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": record.key.decode() if record.key is not None else None,
        "value": record.value.decode(),
    }


def main():
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    servers = sys.argv[1].split(",")
    commands = {"create": create, "produce": produce, "read": read, "group": group}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = commands[command["do"]](servers, command)
        except Exception as error:  # whatever the client says is what the case is about
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
