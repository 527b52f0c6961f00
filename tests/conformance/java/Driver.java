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
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.clients.producer.RoundRobinPartitioner;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Driver {
    static final Duration PATIENCE = Duration.ofSeconds(60);
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        ObjectMapper json = new ObjectMapper();
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
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
