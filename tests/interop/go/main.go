// paho.mqtt.golang as a program of tests/interop; the contract stands in ../README.md.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"sort"
	"strings"
	"time"
)

const (
	messages   = 20
	largeBytes = 100_000
)

var (
	url      = flag.String("url", "", "mqtt://, mqtts://, ws:// or wss://")
	ca       = flag.String("ca", "", "the PEM file of who signed the broker's certificate")
	scenario = flag.String("scenario", "", "which, with commas")
	version  = flag.String("version", "311", "of MQTT")
	name     = flag.String("name", "", "begins topics and client ids")
	dying    = flag.String("dying", "", "connects with a will on this topic, and waits to be killed")
	prefix   string
)

var scenarios = map[string]func() error{
	"qos": qos, "retained": retained, "will": will, "shared": shared, "session": session,
}

func main() {
	flag.Parse()
	prefix = *name
	if *version != "311" {
		fail("the client", fmt.Errorf("it has no MQTT %s", *version))
	}
	if *dying != "" {
		_, err := newClient("dying").connect(true, [2]string{*dying, "gone"})
		if err != nil {
			fail("dying", err)
		}
		fmt.Println("connected")
		select {}
	}
	for _, which := range strings.Split(*scenario, ",") {
		run, known := scenarios[which]
		if !known {
			fail(which, fmt.Errorf("there is no such scenario"))
		}
		if err := run(); err != nil {
			fail(which, err)
		}
		say(map[string]any{"scenario": which, "passed": true})
	}
}

func fail(which string, err error) {
	say(map[string]any{"scenario": which, "error": err.Error()})
	os.Exit(1)
}

func say(what map[string]any) {
	line, _ := json.Marshal(what)
	fmt.Println(string(line))
}

// Of several clients that connect in a row.
func connected(roles ...string) ([]*client, error) {
	var clients []*client
	for _, role := range roles {
		one := newClient(role)
		if _, err := one.connect(true, [2]string{}); err != nil {
			return nil, err
		}
		clients = append(clients, one)
	}
	return clients, nil
}

func payload(qos byte, number int) string {
	length := number * 37
	if number == messages-1 {
		length = largeBytes
	}
	return fmt.Sprintf("%d:%d:%s", qos, number, strings.Repeat("x", length))
}

func payloads(qos byte) []string {
	var all []string
	for number := range messages {
		all = append(all, payload(qos, number))
	}
	return all
}

func expect(what string, got, wanted any) error {
	if reflect.DeepEqual(got, wanted) {
		return nil
	}
	return fmt.Errorf("%s: %.300v, not %.300v", what, got, wanted)
}

func qos() error {
	clients, err := connected("qos-subscriber", "qos-publisher")
	if err != nil {
		return err
	}
	subscriber, publisher := clients[0], clients[1]
	topic := prefix + "/qos/"
	if err := subscriber.subscribe(topic+"#", 2); err != nil {
		return err
	}
	var all []publish
	for qos := range byte(3) {
		for _, one := range payloads(qos) {
			all = append(all, publish{fmt.Sprint(topic, qos), one, qos, false})
		}
	}
	if err := publisher.publish(all...); err != nil {
		return err
	}
	if err := publisher.publish(publish{topic + "end", "end", 2, false}); err != nil {
		return err
	}
	got, err := subscriber.untilEnd(topic + "end")
	if err != nil {
		return err
	}
	for qos := range byte(3) {
		if err := expect(fmt.Sprint("QoS ", qos), got[fmt.Sprint(topic, qos)], payloads(qos)); err != nil {
			return err
		}
	}
	publisher.disconnect()
	subscriber.disconnect()
	return nil
}

// So many messages, each as its topic's last level, payload and flag, sorted.
func (c *client) takeSorted(count int) ([]string, error) {
	var got []string
	for range count {
		message, err := c.take()
		if err != nil {
			return nil, err
		}
		last := message.Topic()[strings.LastIndex(message.Topic(), "/")+1:]
		got = append(got, fmt.Sprint(last, " ", string(message.Payload()), " ", message.Retained()))
	}
	sort.Strings(got)
	return got, nil
}

func retained() error {
	topic := prefix + "/retained/"
	clients, err := connected("retained-publisher", "retained-early", "retained-late")
	if err != nil {
		return err
	}
	publisher, early, late := clients[0], clients[1], clients[2]
	kept, cleared := publish{topic + "kept", "kept", 1, true}, publish{topic + "cleared", "cleared", 1, true}
	if err := publisher.publish(kept, cleared); err != nil {
		return err
	}
	if err := early.subscribe(topic+"#", 1); err != nil {
		return err
	}
	got, err := early.takeSorted(2)
	if err != nil {
		return err
	}
	if err := expect("on SUBSCRIBE", got, []string{"cleared cleared true", "kept kept true"}); err != nil {
		return err
	}
	if err := publisher.publish(publish{topic + "cleared", "", 1, true}); err != nil {
		return err
	}
	if err := late.subscribe(topic+"#", 1); err != nil {
		return err
	}
	if err := publisher.publish(publish{topic + "cleared", "live", 1, false}); err != nil {
		return err
	}
	got, err = late.takeSorted(2)
	if err != nil {
		return err
	}
	if err := expect("after it was cleared", got, []string{"cleared live false", "kept kept true"}); err != nil {
		return err
	}
	err = publisher.publish(publish{topic + "kept", "", 1, true})
	for _, one := range clients {
		one.disconnect()
	}
	return err
}

func will() error {
	topic := prefix + "/will"
	clients, err := connected("will-watcher")
	if err != nil {
		return err
	}
	watcher := clients[0]
	if err := watcher.subscribe(topic, 1); err != nil {
		return err
	}
	polite := newClient("will-polite")
	if _, err := polite.connect(true, [2]string{topic, "polite"}); err != nil {
		return err
	}
	polite.disconnect()
	child := exec.Command(os.Args[0], append(os.Args[1:], "--dying", topic)...)
	output, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || line != "connected\n" {
		return fmt.Errorf("the client that is to die: %s %w", line, err)
	}
	if err := child.Process.Kill(); err != nil {
		return err
	}
	_ = child.Wait()
	message, err := watcher.take()
	if err != nil {
		return err
	}
	watcher.disconnect()
	return expect("the will", string(message.Payload()), "gone")
}

func shared() error {
	topic := prefix + "/shared"
	clients, err := connected("shared-1", "shared-2", "shared-publisher")
	if err != nil {
		return err
	}
	for _, member := range clients[:2] {
		if err := member.subscribe("$share/group/"+topic, 1); err != nil {
			return err
		}
	}
	wanted := append(payloads(1), "end", "end")
	for _, one := range wanted {
		if err := clients[2].publish(publish{topic, one, 1, false}); err != nil {
			return err
		}
	}
	var got []string
	counts := make([]int, 2)
	for len(got) < len(wanted) {
		select {
		case message := <-clients[0].messages:
			got, counts[0] = append(got, string(message.Payload())), counts[0]+1
		case message := <-clients[1].messages:
			got, counts[1] = append(got, string(message.Payload())), counts[1]+1
		case <-time.After(within):
			return fmt.Errorf("%v of %d shared messages", counts, len(wanted))
		}
	}
	sort.Strings(got)
	sort.Strings(wanted)
	if counts[0] == 0 || counts[1] == 0 {
		return fmt.Errorf("one member got everything: %v", counts)
	}
	for _, one := range clients {
		one.disconnect()
	}
	return expect("all, once", got, wanted)
}

func session() error {
	topic := prefix + "/session/"
	away := newClient("session-away")
	if _, err := away.connect(false, [2]string{}); err != nil {
		return err
	}
	if err := away.subscribe(topic+"#", 2); err != nil {
		return err
	}
	away.disconnect()
	before, err := connected("session-before")
	if err != nil {
		return err
	}
	var all []publish
	for number := range messages {
		for qos := byte(1); qos <= 2; qos++ {
			all = append(all, publish{fmt.Sprint(topic, qos), payload(qos, number), qos, false})
		}
	}
	if err := before[0].publish(all...); err != nil {
		return err
	}
	before[0].disconnect()
	say(map[string]any{"waiting": "restart"})
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	present, err := away.connect(false, [2]string{})
	if err != nil {
		return err
	}
	if !present {
		return fmt.Errorf("the session is gone")
	}
	after, err := connected("session-after")
	if err != nil {
		return err
	}
	if err := after[0].publish(publish{topic + "end", "end", 2, false}); err != nil {
		return err
	}
	got, err := away.untilEnd(topic + "end")
	if err != nil {
		return err
	}
	after[0].disconnect()
	away.disconnect()
	if err := expect("QoS 1, at least once", firsts(got[topic+"1"]), payloads(1)); err != nil {
		return err
	}
	return expect("QoS 2, once", got[topic+"2"], payloads(2))
}

// Each once, where it came first.
func firsts(all []string) []string {
	var once []string
	seen := map[string]bool{}
	for _, one := range all {
		if !seen[one] {
			seen[one] = true
			once = append(once, one)
		}
	}
	return once
}
