package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	kills        = 2
	betweenKills = 300
	sendEvery    = 10 * time.Millisecond
	sentAtOnce   = 5
)

// A producer that goes on until it is told to stop.
type load struct {
	acknowledged atomic.Int64
	stop         atomic.Bool
	failed       atomic.Pointer[error]
}

func loadRecord(number int64) record {
	value := []byte(strconv.FormatInt(number, 10))
	return record{key: fmt.Sprint("k", number%7), value: value, partition: byKey, timestampMs: firstMs}
}

func (l *load) run(producer producer, topic string) {
	for number := int64(0); !l.stop.Load(); {
		var records []record
		for range sentAtOnce {
			records = append(records, loadRecord(number))
			number++
		}
		if err := producer.send(topic, records); err != nil {
			l.failed.Store(&err)
			return
		}
		l.acknowledged.Store(number)
		time.Sleep(sendEvery)
	}
}

func (l *load) more() error {
	goal := l.acknowledged.Load() + betweenKills
	return until(fmt.Sprint(goal, " acknowledged"), func() (bool, error) {
		if failed := l.failed.Load(); failed != nil {
			return false, *failed
		}
		return l.acknowledged.Load() >= goal, nil
	})
}

// A group's member that goes on until it has seen so many.
func (s scenarios) follow(topic string, wanted *atomic.Int64) error {
	member, err := s.join(topic, topic)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	var late time.Time
	for {
		got, err := member.poll()
		if err != nil {
			return err
		}
		for _, one := range got {
			seen[string(one.value)] = true
		}
		if len(got) > 0 {
			// What can't be committed while the broker is away comes again.
			_ = member.commit()
		}
		all := wanted.Load()
		if all > 0 && int64(len(seen)) >= all {
			return member.close()
		}
		if all > 0 && late.IsZero() {
			late = time.Now().Add(within)
		}
		if all > 0 && time.Now().After(late) {
			return fmt.Errorf("not within %v: the group's member has seen %d of %d", within, len(seen), all)
		}
	}
}

func (s scenarios) killed(topic string) error {
	if err := s.makeTopic(topic, 3, nil); err != nil {
		return err
	}
	producer, err := s.producer("none")
	if err != nil {
		return err
	}
	var load load
	var wanted atomic.Int64
	var work sync.WaitGroup
	var followed error
	work.Go(func() { followed = s.follow(topic, &wanted) })
	var producing sync.WaitGroup
	producing.Go(func() { load.run(producer, topic) })
	lines := bufio.NewReader(os.Stdin)
	for kill := 0; ; kill++ {
		if err := load.more(); err != nil {
			return err
		}
		if kill == kills {
			break
		}
		say(map[string]any{"waiting": "kill"})
		if _, err := lines.ReadString('\n'); err != nil {
			return err
		}
	}
	load.stop.Store(true)
	producing.Wait()
	sent := load.acknowledged.Load()
	wanted.Store(sent)
	work.Wait()
	if err := first(followed, producer.close()); err != nil {
		return err
	}
	got, err := s.readAll(topic)
	if err != nil {
		return err
	}
	numbers := map[string][]string{}
	for number := range sent {
		one := loadRecord(number)
		numbers[one.key] = append(numbers[one.key], string(one.value))
	}
	found := map[string][]string{}
	for _, one := range got {
		found[one.key] = append(found[one.key], string(one.value))
	}
	return expect("each once and in its key's order", found, numbers)
}
