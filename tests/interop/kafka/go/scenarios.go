package main

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

const firstMs = 1_700_000_000_000

type scenarios struct {
	library
	name  string
	doors []door
	// A client of the library that comes by a door.
	makes func(at door) (library, error)
}

func (s scenarios) run(scenario string) error {
	switch scenario {
	case "roundtrip":
		return s.roundtrip(s.name + "-roundtrip")
	case "group":
		return s.group(s.name + "-group")
	case "admin":
		return s.administration(s.name+"-admin", s.name+"-admin-group")
	case "doors":
		return s.throughDoors(s.name + "-doors")
	case "seek":
		return s.seek(s.name + "-seek")
	case "killed":
		return s.killed(s.name + "-killed")
	}
	return fmt.Errorf("there is no such scenario")
}

// Produces with a producer of its own.
func (s scenarios) produce(topic, codec string, records []record) error {
	producer, err := s.producer(codec)
	if err != nil {
		return err
	}
	return first(producer.send(topic, records), producer.close())
}

// All of a topic from its beginning to where it ends now.
func (s scenarios) readAll(topic string) ([]record, error) {
	ends, err := s.offsets(topic, latest)
	if err != nil {
		return nil, err
	}
	var all []record
	for partition := range int32(len(ends)) {
		if ends[partition] == 0 {
			continue
		}
		got, err := s.read(topic, partition, 0, int(ends[partition]))
		if err != nil {
			return nil, err
		}
		all = append(all, got...)
	}
	return all, nil
}

// The records of each key in their order, as text.
func keyed(records []record) map[string][]string {
	lists := map[string][]string{}
	for _, one := range records {
		value := "null"
		if one.value != nil {
			value = string(one.value)
		}
		line := fmt.Sprint(one.partition, " ", one.offset, " ", one.timestampMs, " ", one.headers, " ", value)
		lists[one.key] = append(lists[one.key], line)
	}
	return lists
}

func (s scenarios) roundtrip(topic string) error {
	const count = 60
	if err := s.makeTopic(topic, 3, nil); err != nil {
		return err
	}
	var sent []record
	for _, codec := range s.codecs() {
		var records []record
		for number := range count {
			length := number * 37
			if number == count-2 {
				length = 100_000
			}
			one := record{
				key:         fmt.Sprint(codec, "-", number%5),
				value:       []byte(fmt.Sprint(codec, ":", number, ":", strings.Repeat("x", length))),
				headers:     map[string]string{"codec": codec, "n": strconv.Itoa(number)},
				timestampMs: firstMs + int64(number),
				partition:   byKey,
			}
			if number%10 == 9 {
				one.value = nil
			}
			records = append(records, one)
		}
		if err := s.produce(topic, codec, records); err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
		sent = append(sent, records...)
	}
	got, err := s.readAll(topic)
	if err != nil {
		return err
	}
	if err := expect("records", len(got), len(sent)); err != nil {
		return err
	}
	return expect("each key in its order", keyed(got), keyed(sent))
}

// What has come to a group's members, all of whom commit what they get.
type taken struct {
	seen map[string]bool
}

func (t *taken) from(members ...member) error {
	for _, one := range members {
		got, err := one.poll()
		if err != nil {
			return err
		}
		for _, record := range got {
			if t.seen[string(record.value)] {
				return fmt.Errorf("%s came twice", record.value)
			}
			t.seen[string(record.value)] = true
		}
		if len(got) == 0 {
			continue
		}
		if err := one.commit(); err != nil {
			return err
		}
	}
	return nil
}

func (t *taken) until(count int, members ...member) error {
	err := until(fmt.Sprint(count, " records"), func() (bool, error) {
		err := t.from(members...)
		return len(t.seen) >= count, err
	})
	return first(err, expect("records", len(t.seen), count))
}

// So many records over so many partitions.
func spread(prefix string, count int, partitions int32) []record {
	var records []record
	for number := range count {
		value := []byte(fmt.Sprint(prefix, number))
		partition := int32(number) % partitions
		records = append(records, record{key: "key", value: value, partition: partition, timestampMs: firstMs})
	}
	return records
}

func (s scenarios) group(topic string) error {
	const partitions, round = 12, 240
	if err := s.makeTopic(topic, partitions, nil); err != nil {
		return err
	}
	all := taken{map[string]bool{}}
	one, err := s.join(topic, topic)
	if err != nil {
		return err
	}
	other, err := s.join(topic, topic)
	if err != nil {
		return err
	}
	err = until("both share the partitions", func() (bool, error) {
		err := all.from(one, other)
		return one.assigned() == partitions/2 && other.assigned() == partitions/2, err
	})
	if err != nil {
		return err
	}
	if err := first(s.produce(topic, "none", spread("1:", round, partitions)), all.until(round, one, other)); err != nil {
		return err
	}
	if err := first(other.close(), s.produce(topic, "none", spread("2:", round, partitions))); err != nil {
		return err
	}
	if err := all.until(2*round, one); err != nil {
		return err
	}
	if err := first(expect("what the last member has", one.assigned(), partitions), one.close()); err != nil {
		return err
	}
	if err := s.produce(topic, "none", spread("3:", round, partitions)); err != nil {
		return err
	}
	third, err := s.join(topic, topic)
	if err != nil {
		return err
	}
	return first(all.until(3*round, third), third.close())
}

func (s scenarios) seek(topic string) error {
	if err := s.makeTopic(topic, 1, nil); err != nil {
		return err
	}
	records := spread("", 100, 1)
	for number := range records {
		records[number].timestampMs = firstMs + int64(number)*1000
	}
	if err := s.produce(topic, "none", records); err != nil {
		return err
	}
	wanted := []struct {
		atMs   int64
		offset int64
	}{{firstMs + 50_001, 51}, {earliest, 0}, {latest, 100}}
	for _, one := range wanted {
		found, err := s.offsets(topic, one.atMs)
		if err := first(err, expect(fmt.Sprint("the offset at ", one.atMs), found[0], one.offset)); err != nil {
			return err
		}
	}
	for _, offset := range []int64{51, 0, 98} {
		got, err := s.read(topic, 0, offset, 1)
		if err != nil {
			return err
		}
		if err := expect("from an offset on", string(got[0].value), fmt.Sprint(offset)); err != nil {
			return err
		}
	}
	return nil
}

func (s scenarios) administration(topic, group string) error {
	if err := s.topicsAndSettings(topic); err != nil {
		return err
	}
	if err := s.groupAndLag(topic, group); err != nil {
		return err
	}
	if err := s.deleteRecords(topic, 0, 5); err != nil {
		return err
	}
	begins, err := s.offsets(topic, earliest)
	if err := first(err, expect("where it begins after a deletion", begins[0], int64(5))); err != nil {
		return err
	}
	if err := s.deleteGroup(group); err != nil {
		return err
	}
	err = until("the group is gone", func() (bool, error) {
		groups, err := s.groups()
		return !slices.Contains(groups, group), err
	})
	if err := first(err, s.deleteTopic(topic)); err != nil {
		return err
	}
	return until("the topic is gone", func() (bool, error) {
		topics, err := s.topics()
		return !slices.Contains(topics, topic), err
	})
}

func (s scenarios) topicsAndSettings(topic string) error {
	brokers, err := s.brokers()
	if err := first(err, expect("the brokers", brokers, 1)); err != nil {
		return err
	}
	settings := map[string]string{"retention.ms": "86400000"}
	if err := s.makeTopic(topic, 3, settings); err != nil {
		return err
	}
	if again := s.makeTopic(topic, 3, settings); again == nil || !s.isThere(again) {
		return fmt.Errorf("its second making: %v", again)
	}
	topics, err := s.topics()
	if err := first(err, expect("it is listed", slices.Contains(topics, topic), true)); err != nil {
		return err
	}
	partitions, err := s.partitions(topic)
	if err := first(err, expect("its partitions", partitions, 3), s.grow(topic, 5)); err != nil {
		return err
	}
	err = until("it has grown", func() (bool, error) {
		partitions, err := s.partitions(topic)
		return partitions == 5, err
	})
	if err != nil {
		return err
	}
	setting, err := s.setting(topic, "retention.ms")
	if err := first(err, expect("retention.ms", setting, "86400000")); err != nil {
		return err
	}
	if err := s.alter(topic, "retention.ms", "3600000"); err != nil {
		return err
	}
	return until("retention.ms is altered", func() (bool, error) {
		setting, err := s.setting(topic, "retention.ms")
		return setting == "3600000", err
	})
}

func (s scenarios) groupAndLag(topic, group string) error {
	if err := s.produce(topic, "none", spread("", 50, 5)); err != nil {
		return err
	}
	one, err := s.join(group, topic)
	if err != nil {
		return err
	}
	all := taken{map[string]bool{}}
	if err := all.until(50, one); err != nil {
		return err
	}
	described, err := s.describeGroup(group)
	if err := first(err, expect("the group", described, groupDescription{"Stable", 1, 5}), one.close()); err != nil {
		return err
	}
	err = until("the group is empty", func() (bool, error) {
		described, err := s.describeGroup(group)
		return described.state == "Empty", err
	})
	if err != nil {
		return err
	}
	groups, err := s.groups()
	if err := first(err, expect("it is listed", slices.Contains(groups, group), true)); err != nil {
		return err
	}
	if err := s.produce(topic, "none", spread("", 10, 5)); err != nil {
		return err
	}
	ends, err := s.offsets(topic, latest)
	if err != nil {
		return err
	}
	committed, err := s.committed(group, topic)
	lag := int64(0)
	for partition, end := range ends {
		lag += end - committed[partition]
	}
	return first(err, expect("the lag", lag, int64(10)))
}

func sorted(records []record) []record {
	sort.SliceStable(records, func(one, other int) bool { return records[one].offset < records[other].offset })
	return records
}

func sortedNames(headers map[string]string) []string {
	var names []string
	for name := range headers {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func msTime(ms int64) time.Time { return time.UnixMilli(ms) }
