// franz-go and sarama as programs of tests/interop/kafka; the contract stands in ../README.md.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"
)

// Nothing here takes longer than this on a slow, busy machine.
const within = 40 * time.Second

// How long one poll waits for a record.
const pollFor = 200 * time.Millisecond

// Instead of a time: where a partition begins and ends.
const (
	latest   int64 = -1
	earliest int64 = -2
)

// What is produced and consumed; a record without a partition goes where its key says.
type record struct {
	key         string
	value       []byte
	headers     map[string]string
	timestampMs int64
	partition   int32
	offset      int64
}

const byKey int32 = -1

// What the scenarios ask of a library.
type library interface {
	codecs() []string
	// The code of Kafka's with which something was refused, by the client's own words; empty where it was not.
	refusal(err error) string
	producer(codec string) (producer, error)
	join(group, topic string) (member, error)
	// So many records at least of one partition, from an offset on; no group has to do with it.
	read(topic string, partition int32, offset int64, count int) ([]record, error)
	admin
}

// It is idempotent, with acks=all.
type producer interface {
	// Says in the records where they are.
	send(topic string, records []record) error
	close() error
}

type member interface {
	poll() ([]record, error)
	commit() error
	assigned() int
	close() error
}

type admin interface {
	brokers() (int, error)
	makeTopic(topic string, partitions int32, settings map[string]string) error
	isThere(err error) bool
	topics() ([]string, error)
	partitions(topic string) (int, error)
	grow(topic string, partitions int) error
	setting(topic, key string) (string, error)
	alter(topic, key, value string) error
	groups() ([]string, error)
	describeGroup(group string) (groupDescription, error)
	// By partition, at a time, or earliest or latest.
	offsets(topic string, atMs int64) (map[int32]int64, error)
	committed(group, topic string) (map[int32]int64, error)
	deleteRecords(topic string, partition int32, before int64) error
	deleteGroup(group string) error
	deleteTopic(topic string) error
}

type groupDescription struct {
	state   string
	members int
	has     int
}

func say(line map[string]any) {
	text, _ := json.Marshal(line)
	fmt.Println(string(text))
}

func until(what string, holds func() (bool, error)) error {
	deadline := time.Now().Add(within)
	for {
		done, err := holds()
		if err != nil || done {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func expect(what string, got, wanted any) error {
	if reflect.DeepEqual(got, wanted) {
		return nil
	}
	return fmt.Errorf("%s: %.300v, not %.300v", what, got, wanted)
}

// The first of them that is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func main() {
	bootstrap := flag.String("bootstrap", "127.0.0.1:9092", "")
	name := flag.String("name", "go", "")
	scenario := flag.String("scenario", "roundtrip", "")
	which := flag.String("library", "franz-go", "")
	var doors []door
	flag.Func("door", "", func(text string) error {
		doors = append(doors, parseDoor(text))
		return nil
	})
	flag.Parse()
	makes := newFranz
	if *which == "sarama" {
		makes = newSarama
	}
	run := scenarios{name: *name, doors: doors, makes: makes}
	var err error
	if len(doors) == 0 {
		run.library, err = makes(door{"address": *bootstrap})
	}
	for _, one := range strings.Split(*scenario, ",") {
		if err == nil {
			err = run.run(one)
		}
		if err != nil {
			say(map[string]any{"scenario": one, "error": err.Error()})
			os.Exit(1)
		}
		say(map[string]any{"scenario": one, "passed": true})
	}
}
