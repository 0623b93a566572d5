package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go"
)

// What is spoken inside QUIC.
const alpn = "mqtt"

// How long a goodbye may take to arrive.
const goodbye = 2 * time.Second

func (v visit) dial(context context.Context) (net.Conn, error) {
	config, err := v.tls()
	if err != nil {
		return nil, err
	}
	switch v.Transport {
	case "tcp", "unix":
		return new(net.Dialer).DialContext(context, v.Transport, v.Address)
	case "tls":
		return (&tls.Dialer{Config: config}).DialContext(context, "tcp", v.Address)
	case "websocket":
		return v.webSocket(context, "ws", http.DefaultClient)
	case "secure_websocket":
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		return v.webSocket(context, "wss", client)
	case "quic":
		return v.quic(context, config)
	}
	return nil, fmt.Errorf("there is no transport %s", v.Transport)
}

func (v visit) tls() (*tls.Config, error) {
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if v.CA != "" {
		pem, err := os.ReadFile(v.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	if v.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(v.Certificate, v.Key)
		if err != nil {
			return nil, err
		}
		// Whatever CAs the server says that it takes.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config, nil
}

func (v visit) webSocket(dialing context.Context, scheme string, client *http.Client) (net.Conn, error) {
	options := &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"mqtt"}}
	connection, _, err := websocket.Dial(dialing, fmt.Sprintf("%s://%s/mqtt", scheme, v.Address), options)
	if err != nil {
		return nil, err
	}
	return websocket.NetConn(context.Background(), connection, websocket.MessageBinary), nil
}

// One two-way stream of a connection of its own.
func (v visit) quic(context context.Context, config *tls.Config) (net.Conn, error) {
	config.NextProtos = []string{alpn}
	connection, err := quic.DialAddr(context, v.Address, config, nil)
	if err != nil {
		return nil, err
	}
	stream, err := connection.OpenStreamSync(context)
	if err != nil {
		return nil, err
	}
	return quicConn{stream, connection}, nil
}

type quicConn struct {
	*quic.Stream
	connection *quic.Conn
}

func (c quicConn) LocalAddr() net.Addr  { return c.connection.LocalAddr() }
func (c quicConn) RemoteAddr() net.Addr { return c.connection.RemoteAddr() }

// What was written before arrives.
func (c quicConn) Close() error {
	c.CancelRead(0)
	err := c.Stream.Close()
	go func() {
		select {
		case <-c.connection.Context().Done():
		case <-time.After(goodbye):
		}
		_ = c.connection.CloseWithError(0, "")
	}()
	return err
}
