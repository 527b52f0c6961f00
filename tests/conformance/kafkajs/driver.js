// kafkajs behind the commands of ../README.md, but for reading: it has no stand-alone consumer.

const readline = require("node:readline");
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

const PATIENCE_MS = 60_000;

process.env.KAFKAJS_NO_PARTITIONER_WARNING = "1";

// Its log goes to standard output by default, which is ours.
const logCreator = () => ({ namespace, log }) => console.error(namespace, log.message, log.error ?? "");
const kafka = new Kafka({ brokers: process.argv[2].split(","), logLevel: logLevel.WARN, logCreator });

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
    const count = () => members.reduce((sum, { read }) => sum + read.length, 0);
    const until = async (done) => {
      const deadline = Date.now() + PATIENCE_MS;
      while (!done()) {
        if (Date.now() > deadline) {
          const assigned = JSON.stringify(members.map((member) => member.assigned));
          throw new Error(`read ${count()} records, assigned ${assigned}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    try {
      await join(command, members);
      await until(() => count() >= command.before);
      if (command.records.length > 0) {
        // Before the second joins: by the time it has, the first may have given its share.
        const { length } = members[0].assigned;
        await join(command, members);
        await until(() => {
          const sizes = members.map(({ assigned }) => assigned.length);
          return Math.min(...sizes) > 0 && sizes[0] + sizes[1] === length;
        });
        await commands.produce(command);
        await until(() => count() >= command.before + command.records.length);
      }
    } finally {
      // It commits what it has handed out when it stops.
      for (const { consumer } of members) await consumer.disconnect();
    }
    return { read: members.map(({ read }) => read), assigned: members.map(({ assigned }) => assigned) };
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
  const member = { consumer, read: [], assigned: [] };
  members.push(member);
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    member.assigned = (payload.memberAssignment[topic] ?? []).sort((one, other) => one - other);
  });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ partition, message }) => {
      const { key, value, offset, timestamp } = message;
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
