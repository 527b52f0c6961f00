// kafkajs behind the commands of ../README.md, but for reading: it has no stand-alone consumer.

const readline = require("node:readline");
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

const PATIENCE_MS = 60_000;

process.env.KAFKAJS_NO_PARTITIONER_WARNING = "1";

// Its log goes to standard output by default, which is ours.
const logCreator = () => ({ namespace, log }) => {
  const { timestamp, message, error, memberId, generationId } = log;
  console.error(timestamp, namespace, message, error ?? "", memberId ?? "", generationId ?? "");
};
const kafka = new Kafka({ brokers: process.argv[2].split(","), logLevel: logLevel.INFO, logCreator });

const commands = {
  async create({ topic, partitions }) {
    const admin = kafka.admin();
    await admin.connect();
    try {
      await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: partitions }] });
    } finally {
      await admin.disconnect();
    }
    return {};
  },

  async produce({ topic, acks, codec, records }) {
    const producer = kafka.producer();
    await producer.connect();
    try {
      const request = { topic, messages: records };
      if (acks !== null) request.acks = acks === "all" ? -1 : Number(acks);
      if (codec !== null) request.compression = codec === "gzip" ? CompressionTypes.GZIP : CompressionTypes.None;
      await producer.send(request);
    } finally {
      await producer.disconnect();
    }
    // It tells the offset of each partition's first record only.
    return { placed: [] };
  },

  async group(command) {
    const members = [];
    // Records, however often they were read.
    const count = () =>
      new Set(members.flatMap(({ read }) => read.map(({ partition, offset }) => `${partition} ${offset}`))).size;
    const until = async (done) => {
      const deadline = Date.now() + PATIENCE_MS;
      while (!(await done())) {
        if (Date.now() > deadline) {
          const assigned = JSON.stringify(members.map((member) => member.assigned));
          throw new Error(`read ${count()} records, assigned ${assigned}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    const admin = kafka.admin();
    await admin.connect();
    try {
      await join(command, members);
      await until(() => count() >= command.before);
      // Before the second joins: by the time it has, the first may have given its share.
      const { length } = members[0].assigned;
      const shared = () => {
        const sizes = members.map(({ assigned }) => assigned.length);
        return Math.min(...sizes) > 0 && sizes.reduce((sum, size) => sum + size, 0) === length;
      };
      if (command.records.length > 0) {
        await join(command, members);
        await until(shared);
        await commands.produce(command);
      }
      const wanted = command.before + command.records.length;
      await until(async () => count() >= wanted && shared() && (await committed(admin, command, members)));
      // Before one leaves, and the other has all.
      const assigned = members.map((member) => member.assigned);
      return { read: members.map(({ read }) => read), assigned };
    } finally {
      // Together: each takes seconds. Whose leaving is not followed by a whole rebalance, or by that of the last, comes back with
      // the next coordinator of the group, in Kafka too, and with coordinators that die sooner than its session ends it stays.
      await Promise.all(members.map(({ consumer }) => consumer.disconnect()));
      await admin.disconnect();
    }
  },

  // What its admin client knows of offsets: [partition, low, high] of each partition, and [partition, offset] by time.
  async offsets({ topic, timestamp }) {
    const admin = kafka.admin();
    await admin.connect();
    try {
      const ends = await admin.fetchTopicOffsets(topic);
      const starts = await admin.fetchTopicOffsetsByTimestamp(topic, timestamp);
      return {
        ends: ends.map(({ partition, low, high }) => [partition, Number(low), Number(high)]),
        starts: starts.map(({ partition, offset }) => [partition, Number(offset)]),
      };
    } finally {
      await admin.disconnect();
    }
  },
};

async function join({ group, topic }, members) {
  const consumer = kafka.consumer({ groupId: group });
  const member = { consumer, read: [], assigned: [], position: new Map() };
  members.push(member);
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    member.assigned = (payload.memberAssignment[topic] ?? []).sort((one, other) => one - other);
  });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ partition, message }) => {
      const { key, value, offset, timestamp } = message;
      member.position.set(partition, Number(offset) + 1);
      member.read.push({
        topic,
        partition,
        offset: Number(offset),
        timestamp: Number(timestamp),
        key: key === null ? null : key.toString(),
        value: value.toString(),
      });
    },
  });
}

// Commits, and says whether that is where the reading of every partition has come to. A member that had to join again may be
// behind what others read, or be told that its generation is over.
async function committed(admin, { group, topic }, members) {
  const ends = new Map();
  for (const { partition, offset } of members.flatMap(({ read }) => read)) {
    ends.set(partition, Math.max(ends.get(partition) ?? 0, offset + 1));
  }
  try {
    for (const { consumer, assigned, position } of members) {
      const own = assigned.filter((partition) => position.has(partition));
      await consumer.commitOffsets(
        own.map((partition) => ({ topic, partition, offset: String(position.get(partition)) })),
      );
    }
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
    return partitions.every(({ partition, offset }) => !ends.has(partition) || Number(offset) === ends.get(partition));
  } catch (error) {
    console.error("commit", error.message);
    return false;
  }
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    let answer;
    try {
      answer = await commands[command.do](command);
    } catch (error) {
      answer = { error: `${error.name}: ${error.message}` };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}

main();
