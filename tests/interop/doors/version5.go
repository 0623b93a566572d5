package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/xdg-go/scram"
)

const scramMethod = "SCRAM-SHA-256"

// AUTH: go on; and once more.
const (
	continues = 0x18
	again     = 0x19
)

// xdg-go's SCRAM as paho's Auther.
type prover struct{ conversation *scram.ClientConversation }

func newProver(user, password string) (*prover, error) {
	client, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		return nil, err
	}
	return &prover{client.NewConversation()}, nil
}

func (p *prover) step(said string) []byte {
	answer, err := p.conversation.Step(said)
	if err != nil {
		return []byte(err.Error())
	}
	return []byte(answer)
}

func (p *prover) Authenticate(asked *paho.Auth) *paho.Auth {
	return p.auth(continues, string(asked.Properties.AuthData))
}

func (p *prover) auth(reason byte, said string) *paho.Auth {
	properties := &paho.AuthProperties{AuthMethod: scramMethod, AuthData: p.step(said)}
	return &paho.Auth{ReasonCode: reason, Properties: properties}
}

func (p *prover) Authenticated() {}

func (v visit) connect() *paho.Connect {
	packet := &paho.Connect{ClientID: v.ClientID, CleanStart: true, KeepAlive: 60}
	if v.User != nil {
		packet.UsernameFlag, packet.Username = true, *v.User
		packet.PasswordFlag, packet.Password = true, []byte(v.Password)
	}
	if v.Will != "" {
		packet.WillMessage = &paho.WillMessage{Topic: v.Will, Payload: []byte(v.ClientID), QoS: 1}
	}
	return packet
}

func tries5(context context.Context, one visit) told {
	connection, err := one.dial(context)
	if err != nil {
		return told{Refused: err.Error()}
	}
	config := paho.ClientConfig{Conn: packets.NewThreadSafeConn(connection), PacketTimeout: within}
	packet := one.connect()
	var proves *prover
	if one.Scram != nil {
		proves, err = newProver(one.Scram.User, one.Scram.Password)
		must(err)
		config.AuthHandler = proves
		packet.Properties = &paho.ConnectProperties{AuthMethod: scramMethod, AuthData: proves.step("")}
	}
	client := paho.NewClient(config)
	connack, err := client.Connect(context, packet)
	if connack == nil {
		return told{Refused: err.Error()}
	}
	became := told{Connack: &connack.ReasonCode}
	if err != nil {
		return became
	}
	defer func() { _ = client.Disconnect(&paho.Disconnect{}) }()
	if proves != nil {
		proves.step(string(connack.Properties.AuthData))
		became.Proved = proves.conversation.Valid()
	}
	if err := uses5(context, client, one, &became); err != nil {
		return told{Refused: err.Error()}
	}
	if one.Scram != nil && one.Scram.Again != "" {
		next, err := newProver(one.Scram.User, one.Scram.Again)
		must(err)
		*proves = *next
		answer, err := client.Authenticate(context, proves.auth(again, ""))
		if err != nil {
			return told{Refused: err.Error()}
		}
		became.Again = &answer.ReasonCode
	}
	return became
}

func uses5(context context.Context, client *paho.Client, one visit, became *told) error {
	if len(one.Filters) > 0 {
		subscribe := &paho.Subscribe{}
		for _, filter := range one.Filters {
			subscribe.Subscriptions = append(subscribe.Subscriptions, paho.SubscribeOptions{Topic: filter, QoS: 1})
		}
		suback, err := client.Subscribe(context, subscribe)
		if suback == nil {
			return fmt.Errorf("SUBSCRIBE: %w", err)
		}
		// The code of a filter that was granted is its QoS.
		for _, reason := range suback.Reasons {
			became.Suback = append(became.Suback, granted(reason))
		}
	}
	for _, topic := range one.Topics {
		answer, err := client.Publish(context, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(one.ClientID)})
		if answer == nil {
			return fmt.Errorf("PUBLISH: %w", err)
		}
		became.Puback = append(became.Puback, acknowledged(answer.ReasonCode))
	}
	return nil
}

func granted(reason byte) byte {
	if reason <= 2 {
		return 0
	}
	return reason
}

// Nobody may have subscribed.
func acknowledged(reason byte) byte {
	if reason == 0x10 {
		return 0
	}
	return reason
}

// Somebody who is there all the time.
type listener struct {
	id       string
	client   *paho.Client
	messages chan [2]string
}

func listen(one visit) (*listener, error) {
	context, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	connection, err := one.dial(context)
	if err != nil {
		return nil, err
	}
	l := &listener{id: one.ClientID, messages: make(chan [2]string, 10_000)}
	l.client = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(connection),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(got paho.PublishReceived) (bool, error) {
			l.messages <- [2]string{got.Packet.Topic, string(got.Packet.Payload)}
			return true, nil
		}},
	})
	if _, err := l.client.Connect(context, one.connect()); err != nil {
		return nil, fmt.Errorf("%s: %w", one.ClientID, err)
	}
	var became told
	if err := uses5(context, l.client, one, &became); err != nil {
		return nil, fmt.Errorf("%s: %w", one.ClientID, err)
	}
	for _, reason := range append(became.Suback, became.Puback...) {
		if reason != 0 {
			return nil, errors.New(one.ClientID + " has no right")
		}
	}
	return l, nil
}

func (l *listener) publish(topic string) error {
	context, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_, err := l.client.Publish(context, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(l.id)})
	return err
}
