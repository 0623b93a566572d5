// Command mochi runs the MQTT broker mochi-mqtt on loopback, as a peer of the benchmarks: everybody is
// let in, nothing is kept, nothing is logged.
package main

import (
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// What may be under way or wait for one client; the default drops messages of a closed loop.
const waitingMax = 65535

func main() {
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.ReceiveMaximum = waitingMax
	capabilities.MaximumInflight = waitingMax
	capabilities.MaximumClientWritesPending = waitingMax
	server := mqtt.New(&mqtt.Options{
		Capabilities:             capabilities,
		ClientNetReadBufferSize:  64 << 10,
		ClientNetWriteBufferSize: 64 << 10,
		Logger:                   slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		log.Fatal(err)
	}
	tcp := listeners.NewTCP(listeners.Config{ID: "tcp", Address: os.Args[1]})
	if err := server.AddListener(tcp); err != nil {
		log.Fatal(err)
	}
	if err := server.Serve(); err != nil {
		log.Fatal(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	server.Close()
}
