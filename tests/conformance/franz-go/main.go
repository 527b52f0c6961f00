// franz-go behind the commands of ../README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const patience = time.Minute

type command struct {
	Do         string
	Topic      string
	Partitions int32
	Acks       *string
	Codec      *string
	Way        string
	Records    []record
	Topics     []string
	From       string
	Value      int64
	Group      string
	Protocol   string
	Assignor   string
	Before     int
}

type record struct {
	Topic     string  `json:"topic"`
	Partition *int32  `json:"partition"`
	Offset    int64   `json:"offset"`
	Timestamp int64   `json:"timestamp"`
	Key       *string `json:"key"`
	Value     string  `json:"value"`
}

type answer struct {
	Error   string     `json:"error,omitempty"`
	Placed  [][2]int64 `json:"placed,omitempty"`
	Records []record   `json:"records,omitempty"`
	// What each member of a group read, and what it was assigned at the end.
	Read     [][]record `json:"read,omitempty"`
	Assigned [][]int32  `json:"assigned,omitempty"`
}

var acks = map[string][]kgo.Opt{
	"0":   {kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()},
	"1":   {kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()},
	"all": {kgo.RequiredAcks(kgo.AllISRAcks())},
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

var ways = map[string][]kgo.Opt{
	"key":         nil,
	"round-robin": {kgo.RecordPartitioner(kgo.RoundRobinPartitioner())},
	"partition":   {kgo.RecordPartitioner(kgo.ManualPartitioner())},
}

type driver struct {
	seeds kgo.Opt
	// A client sends what nobody acknowledges on a connection that Close cuts, so these live as long as we do.
	unacknowledged []*kgo.Client
}

func main() {
	d := driver{seeds: kgo.SeedBrokers(strings.Split(os.Args[1], ",")...)}
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return
		}
		var c command
		if err == nil {
			err = json.Unmarshal(line, &c)
		}
		var a answer
		if err == nil {
			a, err = d.do(c)
		}
		if err != nil {
			a = answer{Error: err.Error()}
		}
		if err := out.Encode(a); err != nil {
			return
		}
	}
}

func (d *driver) do(c command) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch c.Do {
	case "create":
		return answer{}, d.create(ctx, c)
	case "produce":
		return d.produce(ctx, c)
	case "read":
		return d.read(ctx, c)
	case "group":
		return d.group(ctx, c)
	default:
		return answer{}, fmt.Errorf("what is %q", c.Do)
	}
}

func (d *driver) create(ctx context.Context, c command) error {
	client, err := kgo.NewClient(d.seeds)
	if err != nil {
		return err
	}
	defer client.Close()
	created, err := kadm.NewClient(client).CreateTopics(ctx, c.Partitions, 1, nil, c.Topic)
	if err != nil {
		return err
	}
	return created.Error()
}

func (d *driver) produce(ctx context.Context, c command) (answer, error) {
	options := append([]kgo.Opt{d.seeds}, ways[c.Way]...)
	if c.Acks != nil {
		options = append(options, acks[*c.Acks]...)
	}
	if c.Codec != nil {
		options = append(options, kgo.ProducerBatchCompression(codecs[*c.Codec]))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return answer{}, err
	}
	if c.Acks != nil && *c.Acks == "0" {
		d.unacknowledged = append(d.unacknowledged, client)
	} else {
		defer client.Close()
	}
	records := make([]*kgo.Record, len(c.Records))
	for i, r := range c.Records {
		records[i] = &kgo.Record{Topic: c.Topic, Value: []byte(r.Value)}
		if r.Key != nil {
			records[i].Key = []byte(*r.Key)
		}
		if r.Partition != nil {
			records[i].Partition = *r.Partition
		}
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return answer{}, err
	}
	var a answer
	for _, r := range records {
		offset := r.Offset
		if c.Acks != nil && *c.Acks == "0" {
			offset = -1
		}
		a.Placed = append(a.Placed, [2]int64{int64(r.Partition), offset})
	}
	return a, nil
}

type partition struct {
	topic  string
	number int32
}

func (d *driver) read(ctx context.Context, c command) (answer, error) {
	client, err := kgo.NewClient(d.seeds)
	if err != nil {
		return answer{}, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(ctx, c.Topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return answer{}, fmt.Errorf("end offsets: %w", err)
	}
	var starts kadm.ListedOffsets
	var from kgo.Offset
	switch c.From {
	case "beginning":
		from = kgo.NewOffset().AtStart()
		starts, err = admin.ListStartOffsets(ctx, c.Topics...)
	case "timestamp":
		from = kgo.NewOffset().AfterMilli(c.Value)
		starts, err = admin.ListOffsetsAfterMilli(ctx, c.Value, c.Topics...)
	default:
		from = kgo.NewOffset().At(c.Value)
	}
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return answer{}, fmt.Errorf("offsets from %s: %w", c.From, err)
	}
	unread := map[partition]int64{}
	assigned := map[string]map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		start := c.Value
		if listed, ok := starts.Lookup(end.Topic, end.Partition); ok {
			start = listed.Offset
		}
		if start >= end.Offset {
			return
		}
		unread[partition{end.Topic, end.Partition}] = end.Offset
		if assigned[end.Topic] == nil {
			assigned[end.Topic] = map[int32]kgo.Offset{}
		}
		assigned[end.Topic][end.Partition] = from
	})
	consumer, err := kgo.NewClient(d.seeds, kgo.ConsumePartitions(assigned))
	if err != nil {
		return answer{}, err
	}
	defer consumer.Close()
	var a answer
	for len(unread) > 0 {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return answer{}, fmt.Errorf("fetch: %w; not read to their ends: %v", err, unread)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at := partition{r.Topic, r.Partition}
			end, ok := unread[at]
			if !ok || r.Offset >= end {
				return
			}
			if r.Offset+1 == end {
				delete(unread, at)
			}
			a.Records = append(a.Records, received(r))
		})
	}
	return a, nil
}

func received(r *kgo.Record) record {
	number := r.Partition
	read := record{
		Topic: r.Topic, Partition: &number, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(),
		Value: string(r.Value),
	}
	if r.Key != nil {
		key := string(r.Key)
		read.Key = &key
	}
	return read
}
