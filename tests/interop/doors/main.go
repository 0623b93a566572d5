// Eclipse Paho's two clients for Go, paho.golang (MQTT 5) and paho.mqtt.golang (3.1.1), at the doors of an edge: each case says
// how to come and what to do there, and what became of it is told. The contract stands in ../README.md.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// No case takes longer than this on a slow, busy machine.
	within = 20 * time.Second
	atOnce = 8
)

// How somebody comes, and what they do when they are in.
type visit struct {
	Version     int
	Transport   string
	Address     string
	CA          string
	Certificate string
	Key         string
	ClientID    string `json:"client_id"`
	User        *string
	Password    string
	Token       *token
	Scram       *proof
	Will        string
	Filters     []string
	Topics      []string
}

// A password that is proved, and another one for a second time on the same connection.
type proof struct{ User, Password, Again string }

// What a client was told. Refused: there was no CONNACK.
type told struct {
	Refused string `json:"refused,omitempty"`
	Connack *byte  `json:"connack,omitempty"`
	Suback  []byte `json:"-"`
	Puback  []byte `json:"-"`
	// The server has shown that it knows the password, too.
	Proved bool  `json:"proved,omitempty"`
	Again  *byte `json:"again,omitempty"`
}

// Bytes as numbers.
func (t told) MarshalJSON() ([]byte, error) {
	type plain told
	return json.Marshal(struct {
		plain
		Suback []int `json:"suback,omitempty"`
		Puback []int `json:"puback,omitempty"`
	}{plain(t), numbers(t.Suback), numbers(t.Puback)})
}

func numbers(codes []byte) (all []int) {
	for _, code := range codes {
		all = append(all, int(code))
	}
	return all
}

type plan struct {
	// Subscribes to its filters before all others, and publishes `end` after them.
	Watcher visit
	End     string
	// Are there, and subscribe to nothing.
	Receivers []visit
	Cases     []visit
}

type report struct {
	Cases []told `json:"cases"`
	// Topic and payload: the client id of who published it.
	Watched  [][2]string   `json:"watched"`
	Received [][][2]string `json:"received"`
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "keys" {
		must(writeKeys(os.Args[2]))
		return
	}
	var all plan
	must(json.NewDecoder(os.Stdin).Decode(&all))
	done, err := run(all)
	must(err)
	must(json.NewEncoder(os.Stdout).Encode(done))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(all plan) (report, error) {
	watcher, err := listen(all.Watcher)
	if err != nil {
		return report{}, err
	}
	var receivers []*listener
	for _, one := range all.Receivers {
		receiver, err := listen(one)
		if err != nil {
			return report{}, err
		}
		receivers = append(receivers, receiver)
	}
	done := report{Cases: make([]told, len(all.Cases))}
	var working sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for at, one := range all.Cases {
		places <- struct{}{}
		working.Go(func() {
			done.Cases[at] = tries(one)
			<-places
		})
	}
	working.Wait()
	if err := watcher.publish(all.End); err != nil {
		return report{}, err
	}
	if done.Watched, err = watcher.until(all.End); err != nil {
		return report{}, err
	}
	for _, receiver := range receivers {
		received, err := receiver.until(all.End)
		if err != nil {
			return report{}, err
		}
		done.Received = append(done.Received, received)
	}
	return done, nil
}

func tries(one visit) told {
	context, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if one.Token != nil {
		signed, err := one.Token.signed()
		must(err)
		one.Password = signed
	}
	if one.Version == 5 {
		return tries5(context, one)
	}
	return tries3(context, one)
}

// What came before the end, sorted.
func (l *listener) until(end string) ([][2]string, error) {
	got := [][2]string{}
	for {
		select {
		case message := <-l.messages:
			if message[0] != end {
				got = append(got, message)
				continue
			}
			slices.SortFunc(got, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
			return got, nil
		case <-time.After(within):
			return nil, fmt.Errorf("%s: no end, after %v", l.id, got)
		}
	}
}
