package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

type franz struct {
	// Where the cloud is, and who comes.
	at     []kgo.Opt
	client *kadm.Client
}

func newFranz(at door) (library, error) {
	options := []kgo.Opt{kgo.SeedBrokers(at["address"])}
	encryption, err := at.tls()
	if err != nil {
		return nil, err
	}
	if encryption != nil {
		options = append(options, kgo.DialTLSConfig(encryption))
	}
	switch at["mechanism"] {
	case "PLAIN":
		options = append(options, kgo.SASL(plain.Auth{User: at["user"], Pass: at["password"]}.AsMechanism()))
	case "SCRAM-SHA-512":
		options = append(options, kgo.SASL(scram.Auth{User: at["user"], Pass: at["password"]}.AsSha512Mechanism()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	return &franz{options, kadm.NewClient(client)}, nil
}

func (f *franz) with(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(slices.Clone(f.at), options...)...)
}

func (f *franz) refusal(err error) string {
	var kafka *kerr.Error
	if errors.As(err, &kafka) {
		return kafka.Message
	}
	return ""
}

func deadline() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(within, cancel)
	return ctx
}

func (f *franz) codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }

type franzProducer struct{ client *kgo.Client }

func (f *franz) producer(codec string) (producer, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	// A record that names a partition goes there.
	keys := kgo.StickyKeyPartitioner(nil)
	partitioner := kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		byTopic := keys.ForTopic(topic)
		return func(record *kgo.Record, count int) int {
			if record.Partition != byKey {
				return int(record.Partition)
			}
			return byTopic.Partition(record, count)
		}
	})
	client, err := f.with(kgo.ProducerBatchCompression(codecs[codec]),
		kgo.RecordPartitioner(partitioner))
	return &franzProducer{client}, err
}

func (p *franzProducer) send(topic string, records []record) error {
	var all []*kgo.Record
	for _, one := range records {
		sent := &kgo.Record{Topic: topic, Key: []byte(one.key), Value: one.value, Partition: one.partition}
		sent.Timestamp = msTime(one.timestampMs)
		for _, name := range sortedNames(one.headers) {
			sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: name, Value: []byte(one.headers[name])})
		}
		all = append(all, sent)
	}
	err := p.client.ProduceSync(deadline(), all...).FirstErr()
	for at, sent := range all {
		records[at].partition, records[at].offset = sent.Partition, sent.Offset
	}
	return err
}

func (p *franzProducer) close() error {
	p.client.Close()
	return nil
}

func received(one *kgo.Record) record {
	got := record{key: string(one.Key), value: one.Value, timestampMs: one.Timestamp.UnixMilli(),
		partition: one.Partition, offset: one.Offset}
	for _, header := range one.Headers {
		if got.headers == nil {
			got.headers = map[string]string{}
		}
		got.headers[header.Key] = string(header.Value)
	}
	return got
}

type franzMember struct {
	client *kgo.Client
	topic  string
	has    chan map[int32]bool
}

func (f *franz) join(group, topic string) (member, error) {
	has := make(chan map[int32]bool, 1)
	has <- map[int32]bool{}
	change := func(there bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			now := <-has
			for _, partition := range changed[topic] {
				if there {
					now[partition] = true
				} else {
					delete(now, partition)
				}
			}
			has <- now
		}
	}
	client, err := f.with(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)),
		kgo.OnPartitionsLost(change(false)))
	return &franzMember{client, topic, has}, err
}

func (m *franzMember) poll() ([]record, error) { return pollOnce(m.client) }

func pollOnce(client *kgo.Client) ([]record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), pollFor)
	defer cancel()
	fetches := client.PollFetches(ctx)
	for _, failed := range fetches.Errors() {
		// A member that is no longer known is told, and joins again by itself.
		var rejoins *kgo.ErrGroupSession
		if !errors.Is(failed.Err, context.DeadlineExceeded) && !errors.As(failed.Err, &rejoins) {
			return nil, fmt.Errorf("%s %d: %w", failed.Topic, failed.Partition, failed.Err)
		}
	}
	var got []record
	fetches.EachRecord(func(one *kgo.Record) { got = append(got, received(one)) })
	return got, nil
}

func (m *franzMember) commit() error { return m.client.CommitUncommittedOffsets(deadline()) }

func (m *franzMember) assigned() int {
	now := <-m.has
	defer func() { m.has <- now }()
	return len(now)
}

func (m *franzMember) close() error {
	m.client.Close()
	return nil
}

func (f *franz) read(topic string, partition int32, offset int64, count int) ([]record, error) {
	from := map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}}
	client, err := f.with(kgo.ConsumePartitions(from))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var all []record
	err = until(fmt.Sprint(count, " records of ", topic), func() (bool, error) {
		got, err := pollOnce(client)
		all = append(all, got...)
		return len(all) >= count, err
	})
	return sorted(all), err
}

func (f *franz) brokers() (int, error) {
	metadata, err := f.client.BrokerMetadata(deadline())
	return len(metadata.Brokers), err
}

func (f *franz) makeTopic(topic string, partitions int32, settings map[string]string) error {
	configs := map[string]*string{}
	for key, value := range settings {
		configs[key] = &value
	}
	_, err := f.client.CreateTopic(deadline(), partitions, 1, configs, topic)
	return err
}

func (f *franz) isThere(err error) bool { return errors.Is(err, kerr.TopicAlreadyExists) }

func (f *franz) topics() ([]string, error) {
	topics, err := f.client.ListTopics(deadline())
	return topics.Names(), err
}

func (f *franz) partitions(topic string) (int, error) {
	topics, err := f.client.ListTopics(deadline(), topic)
	return len(topics[topic].Partitions), first(err, topics[topic].Err)
}

func (f *franz) grow(topic string, partitions int) error {
	answers, err := f.client.UpdatePartitions(deadline(), partitions, topic)
	return first(err, answers.Error())
}

func (f *franz) setting(topic, key string) (string, error) {
	all, err := f.client.DescribeTopicConfigs(deadline(), topic)
	if err != nil {
		return "", err
	}
	described, err := all.On(topic, nil)
	at := slices.IndexFunc(described.Configs, func(one kadm.Config) bool { return one.Key == key })
	if err != nil || at < 0 {
		return "", first(err, described.Err, fmt.Errorf("there is no %s", key))
	}
	return described.Configs[at].MaybeValue(), described.Err
}

func (f *franz) alter(topic, key, value string) error {
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}
	answers, err := f.client.AlterTopicConfigs(deadline(), change, topic)
	if err != nil {
		return err
	}
	_, err = answers.On(topic, func(answer *kadm.AlterConfigsResponse) error { return answer.Err })
	return err
}

func (f *franz) groups() ([]string, error) {
	groups, err := f.client.ListGroups(deadline())
	return groups.Groups(), err
}

func (f *franz) describeGroup(group string) (groupDescription, error) {
	groups, err := f.client.DescribeGroups(deadline(), group)
	if err != nil {
		return groupDescription{}, err
	}
	described := groups[group]
	has := 0
	for _, topic := range described.AssignedPartitions() {
		has += len(topic)
	}
	return groupDescription{described.State, len(described.Members), has}, described.Err
}

func (f *franz) offsets(topic string, atMs int64) (map[int32]int64, error) {
	var listed kadm.ListedOffsets
	var err error
	switch atMs {
	case earliest:
		listed, err = f.client.ListStartOffsets(deadline(), topic)
	case latest:
		listed, err = f.client.ListEndOffsets(deadline(), topic)
	default:
		listed, err = f.client.ListOffsetsAfterMilli(deadline(), atMs, topic)
	}
	found := map[int32]int64{}
	listed.Each(func(one kadm.ListedOffset) { found[one.Partition] = one.Offset })
	return found, first(err, listed.Error())
}

func (f *franz) committed(group, topic string) (map[int32]int64, error) {
	offsets, err := f.client.FetchOffsets(deadline(), group)
	found := map[int32]int64{}
	for partition, one := range offsets[topic] {
		found[partition] = one.At
	}
	return found, first(err, offsets.Error())
}

func (f *franz) deleteRecords(topic string, partition int32, before int64) error {
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: before})
	answers, err := f.client.DeleteRecords(deadline(), offsets)
	return first(err, answers.Error())
}

func (f *franz) deleteGroup(group string) error {
	answer, err := f.client.DeleteGroup(deadline(), group)
	return first(err, answer.Err)
}

func (f *franz) deleteTopic(topic string) error {
	answer, err := f.client.DeleteTopic(deadline(), topic)
	return first(err, answer.Err)
}
