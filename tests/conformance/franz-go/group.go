package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var balancers = map[string]kgo.GroupBalancer{
	"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(), "sticky": kgo.StickyBalancer(),
	"cooperative-sticky": kgo.CooperativeStickyBalancer(),
	// In the consumer protocol this stands for the server's.
	"uniform": kgo.StickyBalancer(),
}

// The client speaks the consumer protocol only where its context says so.
const consumerProtocol = "opt_in_kafka_next_gen_balancer_beta"

type member struct {
	client *kgo.Client
	read   []record

	// The client tells of partitions beside the polls.
	lock     sync.Mutex
	assigned []int32
}

func (m *member) partitions() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Sorted(slices.Values(m.assigned))
}

func (m *member) gained(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
	m.lock.Lock()
	defer m.lock.Unlock()
	for _, partitions := range topics {
		m.assigned = append(m.assigned, partitions...)
	}
}

func (m *member) lost(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
	m.lock.Lock()
	defer m.lock.Unlock()
	for _, partitions := range topics {
		m.assigned = slices.DeleteFunc(m.assigned, func(p int32) bool { return slices.Contains(partitions, p) })
	}
}

// By default what was read is committed when partitions go; whoever wants to hear of that does it. Where the commit fails
// the partitions go all the same, and whoever gets them reads again.
func (m *member) revoked(ctx context.Context, client *kgo.Client, topics map[string][]int32) {
	if err := client.CommitUncommittedOffsets(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "commit of what goes:", err)
	}
	m.lost(ctx, client, topics)
}

func (d *driver) join(c command) (*member, error) {
	m, ctx := &member{}, context.Background()
	if c.Protocol == "consumer" {
		ctx = context.WithValue(ctx, consumerProtocol, true) //nolint:revive,staticcheck // the key is the client's
	}
	client, err := kgo.NewClient(
		d.seeds, kgo.WithContext(ctx), kgo.ConsumerGroup(c.Group), kgo.ConsumeTopics(c.Topic), kgo.Balancers(balancers[c.Assignor]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(m.gained), kgo.OnPartitionsRevoked(m.revoked), kgo.OnPartitionsLost(m.lost),
	)
	m.client = client
	return m, err
}

func (d *driver) group(ctx context.Context, c command) (answer, error) {
	var members []*member
	defer func() {
		for _, m := range members {
			m.client.Close()
		}
	}()
	join := func() error {
		m, err := d.join(c)
		if err == nil {
			members = append(members, m)
		}
		return err
	}
	if err := join(); err != nil {
		return answer{}, err
	}
	if err := pollUntil(ctx, members, func() bool { return count(members) >= c.Before }); err != nil {
		return answer{}, err
	}
	partitions := len(members[0].partitions())
	shared := func() bool {
		sum, fewest := 0, partitions
		for _, m := range members {
			its := len(m.partitions())
			sum, fewest = sum+its, min(fewest, its)
		}
		return fewest > 0 && sum == partitions
	}
	if len(c.Records) > 0 {
		if err := join(); err != nil {
			return answer{}, err
		}
		if err := pollUntil(ctx, members, shared); err != nil {
			return answer{}, err
		}
		if _, err := d.produce(ctx, c); err != nil {
			return answer{}, err
		}
	}
	done := func() bool {
		return count(members) >= c.Before+len(c.Records) && shared() && committed(ctx, members, c.Topic)
	}
	if err := pollUntil(ctx, members, done); err != nil {
		return answer{}, err
	}
	var a answer
	for _, m := range members {
		a.Read, a.Assigned = append(a.Read, m.read), append(a.Assigned, m.partitions())
	}
	return a, nil
}

// Commits, and says whether that is where the reading of every partition has come to. A member that had to join again may
// be behind what others read, or be told that its generation is over.
func committed(ctx context.Context, members []*member, topic string) bool {
	ends := map[int32]int64{}
	for _, m := range members {
		for _, r := range m.read {
			ends[*r.Partition] = max(ends[*r.Partition], r.Offset+1)
		}
	}
	for _, m := range members {
		if err := m.client.CommitUncommittedOffsets(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "commit:", err)
			return false
		}
		offsets := m.client.CommittedOffsets()[topic]
		for _, partition := range m.partitions() {
			if offsets[partition].Offset < ends[partition] {
				return false
			}
		}
	}
	return true
}

// Records, however often they were read.
func count(members []*member) int {
	type at struct {
		partition int32
		offset    int64
	}
	seen := map[at]bool{}
	for _, m := range members {
		for _, r := range m.read {
			seen[at{*r.Partition, r.Offset}] = true
		}
	}
	return len(seen)
}

func pollUntil(ctx context.Context, members []*member, done func() bool) error {
	for !done() {
		if ctx.Err() != nil {
			return fmt.Errorf("read %d records: %w", count(members), ctx.Err())
		}
		for _, m := range members {
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			fetches := m.client.PollFetches(short)
			cancel()
			if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("fetch: %w", err)
			}
			fetches.EachRecord(func(r *kgo.Record) { m.read = append(m.read, received(r)) })
		}
	}
	return nil
}
