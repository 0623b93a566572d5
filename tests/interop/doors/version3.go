package main

import (
	"context"
	"net"
	"net/url"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const mqtt311 = 4

func tries3(context context.Context, one visit) told {
	// Where it goes is the connection's affair.
	options := mqtt.NewClientOptions().AddBroker("tcp://edge:1883").SetClientID(one.ClientID).SetCleanSession(true).
		SetAutoReconnect(false).SetConnectRetry(false).SetProtocolVersion(mqtt311).SetConnectTimeout(within).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return one.dial(context) })
	if one.User != nil {
		options.SetUsername(*one.User).SetPassword(one.Password)
	}
	if one.Will != "" {
		options.SetWill(one.Will, one.ClientID, 1, false)
	}
	client := mqtt.NewClient(options)
	connected := client.Connect().(*mqtt.ConnectToken)
	if !connected.WaitTimeout(within) {
		return told{Refused: "it is late"}
	}
	code := connected.ReturnCode()
	if err := connected.Error(); err != nil {
		if code == 0 || code > 5 {
			return told{Refused: err.Error()}
		}
		return told{Connack: &code}
	}
	// It returns as soon as DISCONNECT is written; one that is not written in time would be none, and the will comes.
	defer client.Disconnect(uint(within.Milliseconds()))
	became := told{Connack: &code}
	filters := map[string]byte{}
	for _, filter := range one.Filters {
		filters[filter] = 1
	}
	if len(filters) > 0 {
		subscribed := client.SubscribeMultiple(filters, func(mqtt.Client, mqtt.Message) {}).(*mqtt.SubscribeToken)
		if !subscribed.WaitTimeout(within) {
			return told{Refused: "no SUBACK"}
		}
		for _, filter := range one.Filters {
			became.Suback = append(became.Suback, granted(subscribed.Result()[filter]))
		}
	}
	for _, topic := range one.Topics {
		published := client.Publish(topic, 1, false, one.ClientID)
		if !published.WaitTimeout(within) || published.Error() != nil {
			return told{Refused: "no PUBACK"}
		}
		became.Puback = append(became.Puback, 0)
	}
	return became
}
