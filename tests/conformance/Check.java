// Java's clients with their defaults: create, produce in every way, read it all back from offsets and timestamps.

import java.time.Duration;
import java.util.*;
import java.util.concurrent.Future;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

public class Check {
    static final int PARTITIONS = 6;
    static final int COUNT = 60;

    static void check(boolean ok, String what) {
        if (!ok) throw new AssertionError(what);
    }

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], topic = args[1];
        long began = System.currentTimeMillis();
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1))).all().get();
        }

        Set<String> sent = new HashSet<>();
        Map<String, Integer> atKey = new HashMap<>();
        for (String acks : List.of("0", "1", "all")) {
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                Map<String, Object> config =
                    Map.of("bootstrap.servers", bootstrap, "acks", acks, "compression.type", codec);
                try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
                    Map<String, Future<RecordMetadata>> byKey = new LinkedHashMap<>();
                    List<Future<RecordMetadata>> all = new ArrayList<>();
                    for (int n = 0; n < COUNT; n++) {
                        String run = acks + " " + codec + " ", key = "key-" + n % 7;
                        String keyed = run + "key " + n, any = run + "any " + n, to = run + "to " + n;
                        var future = producer.send(new ProducerRecord<>(topic, key, keyed));
                        byKey.put(key + "/" + n, future);
                        all.add(future);
                        all.add(producer.send(new ProducerRecord<>(topic, any)));
                        all.add(producer.send(new ProducerRecord<>(topic, n % PARTITIONS, null, to)));
                        sent.addAll(List.of(keyed, any, to));
                    }
                    producer.flush();
                    for (var future : all) future.get();
                    for (var entry : byKey.entrySet()) {
                        int partition = entry.getValue().get().partition();
                        Integer before = atKey.putIfAbsent(entry.getKey().split("/")[0], partition);
                        check(before == null || before == partition, entry.getKey() + " is in two partitions");
                    }
                }
            }
        }
        System.out.println("produced " + sent.size());

        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest");
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions =
                IntStream.range(0, PARTITIONS).mapToObj(n -> new TopicPartition(topic, n)).toList();
            long deadline = System.currentTimeMillis() + 60_000;
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (ends.values().stream().mapToLong(Long::longValue).sum() < sent.size()) {
                check(System.currentTimeMillis() < deadline, "not everything arrived: " + ends);
                Thread.sleep(100);
                ends = consumer.endOffsets(partitions);
            }
            var everything = read(consumer, ends, partitions.stream().collect(Collectors.toMap(p -> p, p -> 0L)));
            List<String> values = new ArrayList<>();
            everything.forEach((partition, records) -> {
                for (int n = 0; n < records.size(); n++) check(records.get(n).offset() == n, "a hole in " + partition);
                records.forEach(record -> values.add(record.value()));
            });
            check(values.size() == sent.size() && sent.equals(new HashSet<>(values)), "read is not what was sent");
            System.out.println("read " + values.size() + ", offsets without holes");

            Map<TopicPartition, Long> middle = new HashMap<>();
            for (var end : ends.entrySet()) middle.put(end.getKey(), end.getValue() / 2);
            read(consumer, ends, middle).forEach((partition, records) ->
                check(records.isEmpty() || records.get(0).offset() == middle.get(partition), "middle of " + partition));
            System.out.println("read from offsets in the middle");

            for (var entry : everything.entrySet()) {
                if (entry.getValue().isEmpty()) continue;
                long wanted = entry.getValue().get(entry.getValue().size() / 2).timestamp();
                long first = entry.getValue().stream().filter(r -> r.timestamp() >= wanted).findFirst().get().offset();
                long found = consumer.offsetsForTimes(Map.of(entry.getKey(), wanted)).get(entry.getKey()).offset();
                check(found == first, entry.getKey() + " at " + wanted + ": " + found + ", not " + first);
                var before = consumer.offsetsForTimes(Map.of(entry.getKey(), began - 3_600_000));
                check(before.get(entry.getKey()).offset() == 0, "the first record of " + entry.getKey());
                var after = consumer.offsetsForTimes(Map.of(entry.getKey(), began + 3_600_000));
                check(after.get(entry.getKey()) == null, "nothing is in the future");
            }
            System.out.println("read from timestamps");
        }
    }

    static Map<TopicPartition, List<ConsumerRecord<String, String>>> read(
            KafkaConsumer<String, String> consumer, Map<TopicPartition, Long> ends, Map<TopicPartition, Long> from) {
        consumer.assign(from.keySet());
        from.forEach(consumer::seek);
        Map<TopicPartition, List<ConsumerRecord<String, String>>> got = new HashMap<>();
        from.keySet().forEach(partition -> got.put(partition, new ArrayList<>()));
        long deadline = System.currentTimeMillis() + 60_000;
        while (from.keySet().stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
            check(System.currentTimeMillis() < deadline, "not everything could be read");
            for (var record : consumer.poll(Duration.ofMillis(200))) {
                got.get(new TopicPartition(record.topic(), record.partition())).add(record);
            }
        }
        return got;
    }
}
