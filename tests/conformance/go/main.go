// franz-go with its defaults: create, produce in every way, read it all back from offsets and timestamps.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions = 6
	count      = 60
)

func must(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func check(ok bool, format string, args ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
		os.Exit(1)
	}
}

func main() {
	seeds, topic := kgo.SeedBrokers(strings.Split(os.Args[1], ",")...), os.Args[2]
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()

	client, err := kgo.NewClient(seeds)
	must(err, "client")
	admin := kadm.NewClient(client)
	created, err := admin.CreateTopics(ctx, partitions, 1, nil, topic)
	must(err, "create")
	must(created[topic].Err, "create")

	began := time.Now()
	sent := map[string]bool{}
	atKey := map[string]int32{}
	acks := []struct {
		name    string
		options []kgo.Opt
	}{
		{"0", []kgo.Opt{kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()}},
		{"1", []kgo.Opt{kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()}},
		// The default: acks=all, idempotent.
		{"all", nil},
	}
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	ways := map[string][]kgo.Opt{
		"key": nil,
		"any": {kgo.RecordPartitioner(kgo.RoundRobinPartitioner())},
		"to":  {kgo.RecordPartitioner(kgo.ManualPartitioner())},
	}
	for _, ack := range acks {
		for codec, compression := range codecs {
			for way, partitioner := range ways {
				options := append([]kgo.Opt{seeds, kgo.ProducerBatchCompression(compression)}, ack.options...)
				producer, err := kgo.NewClient(append(options, partitioner...)...)
				must(err, "producer")
				var records []*kgo.Record
				for n := range count {
					value := fmt.Sprintf("%s %s %s %d", ack.name, codec, way, n)
					record := &kgo.Record{Topic: topic, Value: []byte(value)}
					switch way {
					case "key":
						record.Key = fmt.Appendf(nil, "key-%d", n%7)
					case "to":
						record.Partition = int32(n % partitions)
					}
					sent[value] = true
					records = append(records, record)
				}
				for _, result := range producer.ProduceSync(ctx, records...) {
					must(result.Err, "produce "+string(result.Record.Value))
					if key := string(result.Record.Key); way == "key" {
						before, known := atKey[key]
						check(!known || before == result.Record.Partition, "%s is in two partitions", key)
						atKey[key] = result.Record.Partition
					}
				}
				producer.Close()
			}
		}
	}
	fmt.Println("produced", len(sent))

	var ends kadm.ListedOffsets
	for {
		ends, err = admin.ListEndOffsets(ctx, topic)
		must(err, "end offsets")
		total := int64(0)
		ends.Each(func(o kadm.ListedOffset) { total += o.Offset })
		if total >= int64(len(sent)) {
			break
		}
		time.Sleep(100 * time.Millisecond)
		must(ctx.Err(), "waiting for everything")
	}
	read := func(from map[int32]kgo.Offset, until func(partition int32) int64) map[int32][]*kgo.Record {
		consumer, err := kgo.NewClient(seeds, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
		must(err, "consumer")
		defer consumer.Close()
		got, left := map[int32][]*kgo.Record{}, 0
		for partition := range from {
			if until(partition) > 0 {
				left++
			}
		}
		for left > 0 {
			fetches := consumer.PollFetches(ctx)
			must(fetches.Err(), "fetch")
			fetches.EachRecord(func(r *kgo.Record) {
				got[r.Partition] = append(got[r.Partition], r)
				if r.Offset+1 == until(r.Partition) {
					left--
				}
			})
		}
		return got
	}
	end := func(partition int32) int64 {
		offset, _ := ends.Lookup(topic, partition)
		return offset.Offset
	}
	start := map[int32]kgo.Offset{}
	for partition := range int32(partitions) {
		start[partition] = kgo.NewOffset().AtStart()
	}
	everything := read(start, end)
	total := 0
	for partition, records := range everything {
		for n, record := range records {
			check(record.Offset == int64(n), "partition %d has a hole at %d", partition, n)
			check(sent[string(record.Value)], "%q was not sent, or is there twice", record.Value)
			delete(sent, string(record.Value))
			total++
		}
	}
	check(len(sent) == 0, "%d records are missing", len(sent))
	fmt.Println("read", total, "offsets without holes")

	middle := map[int32]kgo.Offset{}
	for partition := range everything {
		middle[partition] = kgo.NewOffset().At(end(partition) / 2)
	}
	for partition, records := range read(middle, end) {
		check(records[0].Offset == end(partition)/2, "partition %d starts at %d", partition, records[0].Offset)
	}
	fmt.Println("read from offsets in the middle")

	for partition, records := range everything {
		wanted := records[len(records)/2].Timestamp
		first := int64(0)
		for _, record := range records {
			if !record.Timestamp.Before(wanted) {
				first = record.Offset
				break
			}
		}
		from := map[int32]kgo.Offset{partition: kgo.NewOffset().AfterMilli(wanted.UnixMilli())}
		got := read(from, end)[partition][0].Offset
		check(got == first, "partition %d after %v starts at %d, not at %d", partition, wanted, got, first)
	}
	before, err := admin.ListOffsetsAfterMilli(ctx, began.Add(-time.Hour).UnixMilli(), topic)
	must(err, "offsets after a time")
	before.Each(func(o kadm.ListedOffset) { check(o.Offset == 0 || end(o.Partition) == 0, "%+v", o) })
	fmt.Println("read from timestamps")
}
