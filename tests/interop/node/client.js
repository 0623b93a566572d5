// MQTT.js as a program of tests/interop; the contract stands in ../README.md.
'use strict'

const { readFileSync } = require('node:fs')
const { once } = require('node:events')
const { spawn } = require('node:child_process')
const { isDeepStrictEqual, parseArgs } = require('node:util')
const readline = require('node:readline')
const mqtt = require('mqtt')

const MESSAGES = 20
const LARGE_BYTES = 100_000
// Nothing here takes longer than this on a slow, busy machine.
const WITHIN_MS = 20_000
const SESSION_EXPIRY_S = 3600

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' },
    ca: { type: 'string' },
    scenario: { type: 'string' },
    version: { type: 'string' },
    name: { type: 'string' },
    // Connects with this will and waits to be killed.
    dying: { type: 'string' }
  }
})
const version5 = options.version === '5'
const prefix = options.name

function within(what, promise) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${WITHIN_MS} ms: ${what}`)), WITHIN_MS)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

class Client {
  constructor(role) {
    this.id = `${prefix}-${role}`
    this.messages = []
    this.waiting = []
  }

  // Resolves to whether the broker has a session for it.
  async connect({ clean = true, will } = {}) {
    this.client = mqtt.connect(options.url, {
      clientId: this.id,
      clean,
      protocolVersion: version5 ? 5 : 4,
      reconnectPeriod: 0,
      ca: options.ca && readFileSync(options.ca),
      will: will && { topic: will[0], payload: will[1], qos: 1 },
      properties: version5 && !clean ? { sessionExpiryInterval: SESSION_EXPIRY_S } : undefined
    })
    this.client.on('message', (topic, payload, packet) => this.takeIn(topic, payload, packet))
    const [connack] = await within('CONNACK', once(this.client, 'connect'))
    this.client.on('error', () => {})
    return connack.sessionPresent
  }

  takeIn(topic, payload, { retain, properties = {} }) {
    const message = {
      topic,
      payload: payload.toString(),
      retain,
      responseTopic: properties.responseTopic,
      correlation: properties.correlationData?.toString()
    }
    const waiting = this.waiting.shift()
    if (waiting) waiting(message)
    else this.messages.push(message)
  }

  async subscribe(filter, qos) {
    const granted = await within('SUBACK', this.client.subscribeAsync(filter, { qos }))
    if (granted.some((one) => one.qos >= 0x80)) throw new Error(`SUBACK of ${filter}: refused`)
  }

  publish(topic, payload, more) {
    return within(`publish to ${topic}`, this.client.publishAsync(topic, payload, { qos: 1, ...more }))
  }

  take() {
    if (this.messages.length > 0) return Promise.resolve(this.messages.shift())
    return within(`a message to ${this.id}`, new Promise((resolve) => this.waiting.push(resolve)))
  }

  // What comes before the message on `topic`, by topic.
  async untilEnd(topic) {
    const got = {}
    for (;;) {
      const message = await this.take()
      if (message.topic === topic) return got
      ;(got[message.topic] ??= []).push(message.payload)
    }
  }

  disconnect() {
    return within('the end', this.client.endAsync())
  }
}

function payload(qos, number) {
  return `${qos}:${number}:` + 'x'.repeat(number === MESSAGES - 1 ? LARGE_BYTES : number * 37)
}

function payloads(qos) {
  return Array.from({ length: MESSAGES }, (_, number) => payload(qos, number))
}

function expect(what, got, wanted) {
  if (isDeepStrictEqual(got, wanted)) return
  const [shown, shouldBe] = [got, wanted].map((value) => JSON.stringify(value)?.slice(0, 300))
  throw new Error(`${what}: ${shown}, not ${shouldBe}`)
}

async function connected(role, how) {
  const client = new Client(role)
  await client.connect(how)
  return client
}

const byPayload = (one, other) => (one < other ? -1 : 1)
const short = ({ topic, payload, retain }) => `${topic} ${payload} ${retain}`

const scenarios = {
  async qos() {
    const subscriber = await connected('qos-subscriber')
    await subscriber.subscribe(`${prefix}/qos/#`, 2)
    const publisher = await connected('qos-publisher')
    const underWay = [0, 1, 2].flatMap((qos) =>
      payloads(qos).map((one) => publisher.publish(`${prefix}/qos/${qos}`, one, { qos }))
    )
    await Promise.all(underWay)
    await publisher.publish(`${prefix}/qos/end`, 'end', { qos: 2 })
    const got = await subscriber.untilEnd(`${prefix}/qos/end`)
    for (const qos of [0, 1, 2]) expect(`QoS ${qos}`, got[`${prefix}/qos/${qos}`], payloads(qos))
    await publisher.disconnect()
    await subscriber.disconnect()
  },

  async retained() {
    const [kept, cleared] = [`${prefix}/retained/kept`, `${prefix}/retained/cleared`]
    const publisher = await connected('retained-publisher')
    await publisher.publish(kept, 'kept', { retain: true })
    await publisher.publish(cleared, 'cleared', { retain: true })
    const early = await connected('retained-early')
    await early.subscribe(`${prefix}/retained/#`, 1)
    const first = [short(await early.take()), short(await early.take())].sort()
    expect('on SUBSCRIBE', first, [`${cleared} cleared true`, `${kept} kept true`])
    await publisher.publish(cleared, '', { retain: true })
    const late = await connected('retained-late')
    await late.subscribe(`${prefix}/retained/#`, 1)
    await publisher.publish(cleared, 'live')
    const then = [short(await late.take()), short(await late.take())].sort()
    expect('after it was cleared', then, [`${cleared} live false`, `${kept} kept true`])
    await publisher.publish(kept, '', { retain: true })
    for (const client of [publisher, early, late]) await client.disconnect()
  },

  async will() {
    const topic = `${prefix}/will`
    const watcher = await connected('will-watcher')
    await watcher.subscribe(topic, 1)
    const polite = await connected('will-polite', { will: [topic, 'polite'] })
    await polite.disconnect()
    const child = spawn(process.execPath, [...process.argv.slice(1), `--dying=${topic}`], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    await within('the client that is to die connects', once(child.stdout, 'data'))
    child.kill('SIGKILL')
    expect('the will', (await watcher.take()).payload, 'gone')
    await watcher.disconnect()
  },

  async shared() {
    const topic = `${prefix}/shared`
    const all = new Client('shared-all')
    const members = [await connected('shared-1'), await connected('shared-2')]
    const got = [[], []]
    for (const [at, member] of members.entries()) {
      member.client.on('message', (_, payload) => {
        got[at].push(payload.toString())
        all.takeIn(topic, payload, {})
      })
      await member.subscribe(`$share/group/${topic}`, 1)
    }
    const publisher = await connected('shared-publisher')
    for (const one of [...payloads(1), 'end', 'end']) await publisher.publish(topic, one)
    for (let count = 0; count < MESSAGES + 2; count++) await all.take()
    expect('all, once', got.flat().sort(byPayload), [...payloads(1), 'end', 'end'].sort(byPayload))
    if (got.some((one) => one.length === 0)) throw new Error('one member got everything')
    for (const client of [...members, publisher]) await client.disconnect()
  },

  async request_response() {
    const [request, response] = [`${prefix}/request`, `${prefix}/response/requester`]
    const responder = await connected('responder')
    await responder.subscribe(request, 1)
    const requester = await connected('requester')
    await requester.subscribe(response, 1)
    await requester.publish(request, 'how warm?', {
      properties: { responseTopic: response, correlationData: Buffer.from('no-17') }
    })
    const asked = await responder.take()
    expect('the request', [asked.payload, asked.responseTopic], ['how warm?', response])
    await responder.publish(asked.responseTopic, '21.5', {
      properties: { correlationData: Buffer.from(asked.correlation) }
    })
    const answered = await requester.take()
    expect('the response', [answered.payload, answered.correlation], ['21.5', 'no-17'])
    await requester.disconnect()
    await responder.disconnect()
  },

  async session() {
    const topic = `${prefix}/session`
    const away = await connected('session-away', { clean: false })
    await away.subscribe(`${topic}/#`, 2)
    await away.disconnect()
    const before = await connected('session-before')
    const underWay = payloads(1).flatMap((one, number) => [
      before.publish(`${topic}/1`, one),
      before.publish(`${topic}/2`, payload(2, number), { qos: 2 })
    ])
    await Promise.all(underWay)
    await before.disconnect()
    console.log(JSON.stringify({ waiting: 'restart' }))
    const input = readline.createInterface({ input: process.stdin })
    await once(input, 'line')
    input.close()
    if (!(await away.connect({ clean: false }))) throw new Error('the session is gone')
    const after = await connected('session-after')
    await after.publish(`${topic}/end`, 'end', { qos: 2 })
    const got = await away.untilEnd(`${topic}/end`)
    expect('QoS 1, at least once', [...new Set(got[`${topic}/1`])], payloads(1))
    expect('QoS 2, once', got[`${topic}/2`], payloads(2))
    await after.disconnect()
    await away.disconnect()
  }
}

async function main() {
  if (options.dying) {
    await connected('dying', { will: [options.dying, 'gone'] })
    console.log('connected')
    return
  }
  for (const scenario of options.scenario.split(',')) {
    try {
      await scenarios[scenario]()
    } catch (error) {
      console.log(JSON.stringify({ scenario, error: String(error) }))
      process.exit(1)
    }
    console.log(JSON.stringify({ scenario, passed: true }))
  }
  process.exit(0)
}

main()
