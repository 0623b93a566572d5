"""A paho-mqtt client with a persistent session, whose network loop its owner drives: it connects again
whenever it is cut off."""

import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MessageState
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

IN_FLIGHT_MAX = 20
RECONNECT_AFTER_S = 0.05


class Paho(mqtt.Client):
    """Of paho's own, a second attempt to connect forgets that a message was released (PUBREL), and
    publishes it anew: a broker that has released it must take that for another message."""

    def _messages_reconnect_reset_out(self):
        released = (
            MessageState.MQTT_MS_WAIT_FOR_PUBCOMP,
            MessageState.MQTT_MS_RESEND_PUBREL,
        )
        kept = [message for message in self._out_messages.values() if message.state in released]
        super()._messages_reconnect_reset_out()
        for message in kept:
            message.state = MessageState.MQTT_MS_RESEND_PUBREL


class Client:
    def __init__(self, port, name, protocol):
        self.port, self.name, self.protocol = port, name, protocol
        self.connected = self.waiting = False
        persistent = {} if protocol == mqtt.MQTTv5 else {"clean_session": False}
        self.client = Paho(
            mqtt.CallbackAPIVersion.VERSION2, name, protocol=protocol, **persistent
        )
        self.client.max_inflight_messages_set(IN_FLIGHT_MAX)
        self.client.on_connect = self.on_connect
        self.client.on_disconnect = self.on_disconnect

    def on_connect(self, client, userdata, flags, reason, properties):
        self.connected = not reason.is_failure

    def on_disconnect(self, client, userdata, flags, reason, properties):
        self.connected = False
        self.waiting = False

    def step(self):
        """Drives the network once; whether the client is connected."""
        if not (self.connected or self.waiting):
            try:
                if self.protocol == mqtt.MQTTv5:
                    properties = Properties(PacketTypes.CONNECT)
                    properties.SessionExpiryInterval = 3600
                    self.client.connect(
                        "127.0.0.1", self.port, 30, clean_start=False, properties=properties
                    )
                else:
                    self.client.connect("127.0.0.1", self.port, 30)
                self.waiting = True
            except OSError:
                time.sleep(RECONNECT_AFTER_S)
                return False
        if self.client.loop(timeout=0.01) != mqtt.MQTT_ERR_SUCCESS:
            self.connected = self.waiting = False
        return self.connected
