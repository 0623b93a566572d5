package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

type saramaLibrary struct {
	bootstrap []string
	at        door
	client    sarama.Client
	admin     sarama.ClusterAdmin
}

func newSarama(at door) (library, error) {
	made := &saramaLibrary{bootstrap: []string{at["address"]}, at: at}
	config, err := made.config()
	if err != nil {
		return nil, err
	}
	if made.client, err = sarama.NewClient(made.bootstrap, config); err != nil {
		return nil, err
	}
	made.admin, err = sarama.NewClusterAdminFromClient(made.client)
	return made, err
}

func (s *saramaLibrary) config() (*sarama.Config, error) {
	config := sarama.NewConfig()
	encryption, err := s.at.tls()
	config.Net.TLS.Enable, config.Net.TLS.Config = encryption != nil, encryption
	if mechanism := s.at["mechanism"]; mechanism != "" {
		config.Net.SASL.Enable = true
		config.Net.SASL.Mechanism = sarama.SASLMechanism(mechanism)
		config.Net.SASL.User, config.Net.SASL.Password = s.at["user"], s.at["password"]
		config.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &saramaScram{} }
	}
	return config, err
}

// SCRAM is no part of sarama.
type saramaScram struct{ *scram.ClientConversation }

func (s *saramaScram) Begin(user, password, authzID string) error {
	client, err := scram.SHA512.NewClient(user, password, authzID)
	if err == nil {
		s.ClientConversation = client.NewConversation()
	}
	return err
}

func (s *saramaLibrary) refusal(err error) string {
	switch {
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed):
		return "TOPIC_AUTHORIZATION_FAILED"
	case errors.Is(err, sarama.ErrGroupAuthorizationFailed):
		return "GROUP_AUTHORIZATION_FAILED"
	case errors.Is(err, sarama.ErrClusterAuthorizationFailed):
		return "CLUSTER_AUTHORIZATION_FAILED"
	}
	return ""
}

func (s *saramaLibrary) codecs() []string { return []string{"none", "gzip", "snappy", "lz4", "zstd"} }

type saramaProducer struct{ sarama.SyncProducer }

// A record that names a partition goes there.
type namedPartition struct{ sarama.Partitioner }

func (p namedPartition) Partition(message *sarama.ProducerMessage, count int32) (int32, error) {
	if message.Partition != byKey {
		return message.Partition, nil
	}
	return p.Partitioner.Partition(message, count)
}

func (s *saramaLibrary) producer(codec string) (producer, error) {
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	config.Producer.Idempotent = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Net.MaxOpenRequests = 1
	config.Producer.Partitioner = func(topic string) sarama.Partitioner {
		return namedPartition{sarama.NewHashPartitioner(topic)}
	}
	if err := config.Producer.Compression.UnmarshalText([]byte(codec)); err != nil {
		return nil, err
	}
	made, err := sarama.NewSyncProducer(s.bootstrap, config)
	return saramaProducer{made}, err
}

func (p saramaProducer) send(topic string, records []record) error {
	var all []*sarama.ProducerMessage
	for _, one := range records {
		sent := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(one.key), Partition: one.partition}
		sent.Timestamp = msTime(one.timestampMs)
		if one.value != nil {
			sent.Value = sarama.ByteEncoder(one.value)
		}
		for _, name := range sortedNames(one.headers) {
			header := sarama.RecordHeader{Key: []byte(name), Value: []byte(one.headers[name])}
			sent.Headers = append(sent.Headers, header)
		}
		all = append(all, sent)
	}
	err := p.SendMessages(all)
	for at, sent := range all {
		records[at].partition, records[at].offset = sent.Partition, sent.Offset
	}
	return err
}

func (p saramaProducer) close() error { return p.SyncProducer.Close() }

func saramaReceived(one *sarama.ConsumerMessage) record {
	got := record{key: string(one.Key), value: one.Value, timestampMs: one.Timestamp.UnixMilli(),
		partition: one.Partition, offset: one.Offset}
	for _, header := range one.Headers {
		if got.headers == nil {
			got.headers = map[string]string{}
		}
		got.headers[string(header.Key)] = string(header.Value)
	}
	return got
}

// A member: what its sessions get goes through a channel.
type saramaMember struct {
	group   sarama.ConsumerGroup
	got     chan *sarama.ConsumerMessage
	cancel  context.CancelFunc
	ended   chan error
	lock    sync.Mutex
	session sarama.ConsumerGroupSession
}

func (s *saramaLibrary) join(group, topic string) (member, error) {
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	made, err := sarama.NewConsumerGroup(s.bootstrap, group, config)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	one := &saramaMember{group: made, got: make(chan *sarama.ConsumerMessage), cancel: cancel, ended: make(chan error, 1)}
	go func() {
		for {
			err := made.Consume(ctx, []string{topic}, one)
			if ctx.Err() != nil || errors.Is(err, sarama.ErrClosedConsumerGroup) {
				one.ended <- nil
				return
			}
			if err != nil {
				one.ended <- err
				return
			}
		}
	}()
	return one, nil
}

func (m *saramaMember) set(session sarama.ConsumerGroupSession) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session = session
}

func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.set(session)
	return nil
}

// The claims have ended, and what they have handed over is marked: without this it would come again, since nothing is
// committed by itself.
func (m *saramaMember) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	m.set(nil)
	return nil
}

func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		select {
		case m.got <- message:
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
	return nil
}

func (m *saramaMember) poll() ([]record, error) {
	var got []record
	enough := time.After(pollFor)
	for {
		select {
		case message := <-m.got:
			got = append(got, saramaReceived(message))
		case err := <-m.ended:
			return got, fmt.Errorf("the member has ended: %w", err)
		case <-enough:
			return got, nil
		}
	}
}

func (m *saramaMember) commit() error {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.session != nil {
		m.session.Commit()
	}
	return nil
}

func (m *saramaMember) assigned() int {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.session == nil {
		return 0
	}
	count := 0
	for _, partitions := range m.session.Claims() {
		count += len(partitions)
	}
	return count
}

func (m *saramaMember) close() error {
	// What is marked is committed, and only then it leaves.
	err := m.commit()
	m.cancel()
	return first(err, m.group.Close(), <-m.ended)
}

func (s *saramaLibrary) read(topic string, partition int32, offset int64, count int) ([]record, error) {
	consumer, err := sarama.NewConsumerFromClient(s.client)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	claim, err := consumer.ConsumePartition(topic, partition, offset)
	if err != nil {
		return nil, err
	}
	defer claim.Close()
	var all []record
	late := time.After(within)
	for len(all) < count {
		select {
		case message := <-claim.Messages():
			all = append(all, saramaReceived(message))
		case <-late:
			return nil, fmt.Errorf("%d records of %s, not %d", len(all), topic, count)
		}
	}
	return sorted(all), nil
}

func (s *saramaLibrary) brokers() (int, error) {
	brokers, _, err := s.admin.DescribeCluster()
	return len(brokers), err
}

func (s *saramaLibrary) makeTopic(topic string, partitions int32, settings map[string]string) error {
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: map[string]*string{}}
	for key, value := range settings {
		detail.ConfigEntries[key] = &value
	}
	return s.admin.CreateTopic(topic, detail, false)
}

func (s *saramaLibrary) isThere(err error) bool { return errors.Is(err, sarama.ErrTopicAlreadyExists) }

func (s *saramaLibrary) topics() ([]string, error) {
	topics, err := s.admin.ListTopics()
	var names []string
	for name := range topics {
		names = append(names, name)
	}
	return names, err
}

func (s *saramaLibrary) partitions(topic string) (int, error) {
	described, err := s.admin.DescribeTopics([]string{topic})
	if err != nil {
		return 0, err
	}
	if described[0].Err != sarama.ErrNoError {
		return 0, described[0].Err
	}
	return len(described[0].Partitions), nil
}

func (s *saramaLibrary) grow(topic string, partitions int) error {
	return s.admin.CreatePartitions(topic, int32(partitions), nil, false)
}

func (s *saramaLibrary) setting(topic, key string) (string, error) {
	asked := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{key}}
	entries, err := s.admin.DescribeConfig(asked)
	if err != nil || len(entries) != 1 {
		return "", first(err, fmt.Errorf("%s: %v", key, entries))
	}
	return entries[0].Value, nil
}

func (s *saramaLibrary) alter(topic, key, value string) error {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{
		key: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}
	return s.admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
}

func (s *saramaLibrary) groups() ([]string, error) {
	groups, err := s.admin.ListConsumerGroups()
	var names []string
	for name := range groups {
		names = append(names, name)
	}
	return names, err
}

func (s *saramaLibrary) describeGroup(group string) (groupDescription, error) {
	all, err := s.admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return groupDescription{}, err
	}
	described := groupDescription{state: all[0].State, members: len(all[0].Members)}
	for _, one := range all[0].Members {
		assignment, err := one.GetMemberAssignment()
		if err != nil {
			return described, err
		}
		for _, partitions := range assignment.Topics {
			described.has += len(partitions)
		}
	}
	if all[0].Err != sarama.ErrNoError {
		return described, all[0].Err
	}
	return described, nil
}

func (s *saramaLibrary) offsets(topic string, atMs int64) (map[int32]int64, error) {
	if err := s.client.RefreshMetadata(topic); err != nil {
		return nil, err
	}
	partitions, err := s.client.Partitions(topic)
	found := map[int32]int64{}
	for _, partition := range partitions {
		offset, err := s.client.GetOffset(topic, partition, atMs)
		if err != nil {
			return nil, err
		}
		found[partition] = offset
	}
	return found, err
}

func (s *saramaLibrary) committed(group, topic string) (map[int32]int64, error) {
	partitions, err := s.client.Partitions(topic)
	if err != nil {
		return nil, err
	}
	answer, err := s.admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: partitions})
	if err != nil {
		return nil, err
	}
	found := map[int32]int64{}
	for _, partition := range partitions {
		found[partition] = answer.GetBlock(topic, partition).Offset
	}
	return found, nil
}

func (s *saramaLibrary) deleteRecords(topic string, partition int32, before int64) error {
	return s.admin.DeleteRecords(topic, map[int32]int64{partition: before})
}

func (s *saramaLibrary) deleteGroup(group string) error { return s.admin.DeleteConsumerGroup(group) }

func (s *saramaLibrary) deleteTopic(topic string) error { return s.admin.DeleteTopic(topic) }
