// kafkajs behind the commands of ../README.md, but for reading: it has no stand-alone consumer.

const readline = require("node:readline");
const { CompressionTypes, Kafka, logLevel } = require("kafkajs");

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
