// Kafka's own Java clients behind the commands of ../README.md.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.clients.producer.RoundRobinPartitioner;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Driver {
    static final Duration PATIENCE = Duration.ofSeconds(60);
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        ObjectMapper json = new ObjectMapper();
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        // What the client logs is no answer.
        System.setOut(System.err);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            Map<String, ?> answer;
            try {
                answer = execute(json.readTree(line));
            } catch (Exception error) {
                answer = Map.of("error", String.valueOf(error));
            }
            out.println(json.writeValueAsString(answer));
        }
    }

    static Map<String, ?> execute(JsonNode command) throws Exception {
        return switch (command.get("do").asText()) {
            case "create" -> create(command);
            case "produce" -> produce(command);
            case "group" -> group(command);
            default -> read(command);
        };
    }

    static Map<String, ?> create(JsonNode command) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            NewTopic topic = new NewTopic(command.get("topic").asText(), command.get("partitions").asInt(), (short) 1);
            admin.createTopics(List.of(topic)).all().get();
        }
        return Map.of();
    }

    static Map<String, ?> produce(JsonNode command) throws Exception {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        if (command.hasNonNull("acks")) config.put("acks", command.get("acks").asText());
        if (command.hasNonNull("codec")) config.put("compression.type", command.get("codec").asText());
        if (command.get("way").asText().equals("round-robin")) {
            config.put("partitioner.class", RoundRobinPartitioner.class.getName());
        }
        List<List<Long>> placed = new ArrayList<>();
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode record : command.get("records")) {
                Integer partition = record.hasNonNull("partition") ? record.get("partition").asInt() : null;
                String key = record.hasNonNull("key") ? record.get("key").asText() : null;
                String topic = command.get("topic").asText(), value = record.get("value").asText();
                sent.add(producer.send(new ProducerRecord<>(topic, partition, key, value)));
            }
            producer.flush();
            for (var future : sent) {
                RecordMetadata at = future.get();
                placed.add(List.of((long) at.partition(), at.offset()));
            }
        }
        return Map.of("placed", placed);
    }

    static Map<String, ?> read(JsonNode command) {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap);
        List<Map<String, Object>> records = new ArrayList<>();
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (JsonNode topic : command.get("topics")) {
                consumer.partitionsFor(topic.asText())
                    .forEach(info -> partitions.add(new TopicPartition(info.topic(), info.partition())));
            }
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            consumer.assign(partitions);
            long value = command.get("value").asLong();
            switch (command.get("from").asText()) {
                case "beginning" -> consumer.seekToBeginning(partitions);
                case "offset" -> partitions.forEach(partition -> consumer.seek(partition, value));
                default -> {
                    Map<TopicPartition, Long> times = new HashMap<>();
                    partitions.forEach(partition -> times.put(partition, value));
                    consumer.offsetsForTimes(times).forEach((partition, at) ->
                        consumer.seek(partition, at == null ? ends.get(partition) : at.offset()));
                }
            }
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                if (System.nanoTime() > deadline) throw new IllegalStateException("not everything could be read");
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
                        records.add(received(record));
                    }
                }
            }
        }
        return Map.of("records", records);
    }

    static Map<String, ?> group(JsonNode command) throws Exception {
        int before = command.get("before").asInt(), more = command.get("records").size();
        String topic = command.get("topic").asText();
        List<KafkaConsumer<String, String>> members = new ArrayList<>();
        List<List<Map<String, Object>>> read = new ArrayList<>();
        try {
            join(command, members, read);
            pollUntil(members, read, () -> count(read) >= before);
            int partitions = members.get(0).partitionsFor(topic).size();
            if (more > 0) {
                join(command, members, read);
                pollUntil(members, read, () -> shared(members, partitions));
                produce(command);
            }
            pollUntil(members, read, () ->
                count(read) >= before + more && shared(members, partitions) && committed(members, read));
            List<List<Integer>> assigned = members.stream()
                .map(member -> member.assignment().stream().map(TopicPartition::partition).sorted().toList()).toList();
            return Map.of("read", read, "assigned", assigned);
        } finally {
            members.forEach(KafkaConsumer::close);
        }
    }

    static boolean shared(List<KafkaConsumer<String, String>> members, int partitions) {
        return members.stream().noneMatch(member -> member.assignment().isEmpty())
            && members.stream().mapToInt(member -> member.assignment().size()).sum() == partitions;
    }

    /** Commits, and says whether that is where the reading of every partition has come to. A member that had to join again may
     * be behind what others read, or be told that its commit is of a generation that is over. */
    static boolean committed(List<KafkaConsumer<String, String>> members, List<List<Map<String, Object>>> read) {
        Map<Object, Long> ends = new HashMap<>();
        read.forEach(its -> its.forEach(record ->
            ends.merge(record.get("partition"), (long) record.get("offset") + 1, Math::max)));
        try {
            for (var member : members) {
                member.commitSync();
                for (var at : member.committed(member.assignment()).entrySet()) {
                    Long end = ends.get(at.getKey().partition());
                    if (end != null && (at.getValue() == null || at.getValue().offset() != end)) return false;
                }
            }
            return true;
        } catch (CommitFailedException | RebalanceInProgressException error) {
            System.err.println(error);
            return false;
        }
    }

    static void join(
        JsonNode command, List<KafkaConsumer<String, String>> members, List<List<Map<String, Object>>> read
    ) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        config.put("group.id", command.get("group").asText());
        config.put("auto.offset.reset", "earliest");
        String assignor = command.get("assignor").asText();
        if (command.get("protocol").asText().equals("consumer")) {
            config.put("group.protocol", "consumer");
            config.put("group.remote.assignor", assignor);
        } else {
            config.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
        }
        var member = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
        members.add(member);
        read.add(new ArrayList<>());
        member.subscribe(List.of(command.get("topic").asText()));
    }

    /** Records, however often they were read. */
    static int count(List<List<Map<String, Object>>> read) {
        return (int) read.stream().flatMap(List::stream)
            .map(record -> List.of(record.get("partition"), record.get("offset"))).distinct().count();
    }

    static void pollUntil(
        List<KafkaConsumer<String, String>> members, List<List<Map<String, Object>>> read, BooleanSupplier done
    ) {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (!done.getAsBoolean()) {
            if (System.nanoTime() > deadline) {
                var assigned = members.stream().map(KafkaConsumer::assignment).toList();
                throw new IllegalStateException("read " + count(read) + " records, assigned " + assigned);
            }
            for (int i = 0; i < members.size(); i++) {
                for (var record : members.get(i).poll(Duration.ofMillis(100))) read.get(i).add(received(record));
            }
        }
    }

    static Map<String, Object> received(ConsumerRecord<String, String> record) {
        Map<String, Object> received = new HashMap<>();
        received.put("topic", record.topic());
        received.put("partition", record.partition());
        received.put("offset", record.offset());
        received.put("timestamp", record.timestamp());
        received.put("key", record.key());
        received.put("value", record.value());
        return received;
    }
}
