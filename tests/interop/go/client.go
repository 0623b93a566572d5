package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Nothing here takes longer than this on a slow, busy machine.
const within = 20 * time.Second

// A client that waits for what it does, and for its messages.
type client struct {
	id       string
	mqtt     mqtt.Client
	messages chan mqtt.Message
}

type publish struct {
	topic, payload string
	qos            byte
	retain         bool
}

func newClient(role string) *client {
	return &client{id: prefix + "-" + role, messages: make(chan mqtt.Message, 1000)}
}

// Connects; with clean false, whether the broker has a session for it.
func (c *client) connect(clean bool, will [2]string) (bool, error) {
	options := mqtt.NewClientOptions().AddBroker(*url).SetClientID(c.id).SetCleanSession(clean).
		SetAutoReconnect(false).SetProtocolVersion(4).
		SetDefaultPublishHandler(func(_ mqtt.Client, message mqtt.Message) { c.messages <- message })
	if *ca != "" {
		pem, err := os.ReadFile(*ca)
		if err != nil {
			return false, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return false, errors.New("no certificate in " + *ca)
		}
		options.SetTLSConfig(&tls.Config{RootCAs: roots})
	}
	if will[0] != "" {
		options.SetWill(will[0], will[1], 1, false)
	}
	c.mqtt = mqtt.NewClient(options)
	token := c.mqtt.Connect()
	if err := done("CONNACK", token); err != nil {
		return false, err
	}
	return token.(*mqtt.ConnectToken).SessionPresent(), nil
}

func (c *client) subscribe(filter string, qos byte) error {
	return done("SUBACK", c.mqtt.Subscribe(filter, qos, nil))
}

// Publishes all, and then waits for the acknowledgements.
func (c *client) publish(publishes ...publish) error {
	var tokens []mqtt.Token
	for _, one := range publishes {
		tokens = append(tokens, c.mqtt.Publish(one.topic, one.qos, one.retain, one.payload))
	}
	for _, token := range tokens {
		if err := done("an acknowledgement", token); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) take() (mqtt.Message, error) {
	select {
	case message := <-c.messages:
		return message, nil
	case <-time.After(within):
		return nil, errors.New("no message to " + c.id)
	}
}

// What comes before the message on a topic, by topic.
func (c *client) untilEnd(topic string) (map[string][]string, error) {
	got := map[string][]string{}
	for {
		message, err := c.take()
		if err != nil {
			return nil, err
		}
		if message.Topic() == topic {
			return got, nil
		}
		got[message.Topic()] = append(got[message.Topic()], string(message.Payload()))
	}
}

// It returns as soon as DISCONNECT is written; one that is not written in time would be none.
func (c *client) disconnect() { c.mqtt.Disconnect(uint(within.Milliseconds())) }

func done(what string, token mqtt.Token) error {
	if !token.WaitTimeout(within) {
		return fmt.Errorf("no %s within %s", what, within)
	}
	return token.Error()
}
