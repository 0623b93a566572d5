// kafkajs as a program of tests/interop/kafka; the contract stands in ../README.md.
'use strict'

const { readFileSync } = require('node:fs')
const { isDeepStrictEqual, parseArgs } = require('node:util')
const { setTimeout: pause } = require('node:timers/promises')
const readline = require('node:readline')
const { AssignerProtocol, CompressionCodecs, CompressionTypes, Kafka, logLevel } = require('kafkajs')

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')

// Nothing here takes longer than this on a slow, busy machine.
const WITHIN_MS = 40_000
const LOOK_EVERY_MS = 10
const FIRST_MS = 1_700_000_000_000

const { values: options } = parseArgs({
  options: {
    bootstrap: { type: 'string' },
    name: { type: 'string' },
    scenario: { type: 'string' },
    door: { type: 'string', multiple: true, default: [] }
  }
})

// A client of whoever comes by a door: `address` and, where that is asked for, `ca`, `certificate` and `key`, `mechanism`,
// `user` and `password`.
function clientAt({ address, ca, certificate, key, mechanism, user, password }) {
  const file = (path) => path && readFileSync(path)
  return new Kafka({
    brokers: [address],
    clientId: options.name,
    ssl: ca && { ca: [file(ca)], cert: file(certificate), key: file(key) },
    sasl: mechanism && { mechanism: mechanism.toLowerCase(), username: user, password },
    logLevel: process.env.KAFKAJS_LOG ? logLevel.DEBUG : logLevel.NOTHING
  })
}

let kafka = clientAt({ address: options.bootstrap })

async function until(what, holds) {
  const deadline = Date.now() + WITHIN_MS
  for (;;) {
    const found = await holds()
    if (found) return found
    if (Date.now() > deadline) throw new Error(`not within ${WITHIN_MS} ms: ${what}`)
    await pause(LOOK_EVERY_MS)
  }
}

function expect(what, got, wanted) {
  if (isDeepStrictEqual(got, wanted)) return
  const [shown, shouldBe] = [got, wanted].map((value) => JSON.stringify(value)?.slice(0, 300))
  throw new Error(`${what}: ${shown}, not ${shouldBe}`)
}

function say(line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

async function withAdmin(work) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

function make(topic, numPartitions) {
  return withAdmin((admin) => admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1 }] }))
}

async function withProducer(work) {
  const producer = kafka.producer({ idempotent: true })
  await producer.connect()
  try {
    return await work(producer)
  } finally {
    await producer.disconnect()
  }
}

// A member of a group, and how many partitions it has. It commits each batch when it has been taken, as kafkajs does by
// itself.
class Member {
  constructor(groupId) {
    this.consumer = kafka.consumer({ groupId })
    this.partitions = 0
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.partitions = Object.values(payload.memberAssignment).flat().length
    })
  }

  async join(topic, take) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topic, fromBeginning: true })
    await this.consumer.run({
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) take({ ...message, partition: batch.partition })
      }
    })
    return this
  }

  leave() {
    return this.consumer.disconnect()
  }
}

// All of a topic from its beginning, so many records, in the order of partitions.
async function readAll(topic, count) {
  const all = []
  const member = await new Member(`${topic}-reader`).join(topic, (message) => all.push(message))
  await until(`${count} records of ${topic}, there are ${all.length}`, () => all.length >= count)
  await member.leave()
  expect(`records of ${topic}`, all.length, count)
  return all
}

function byKey(records, shown) {
  const lists = {}
  for (const one of records) (lists[one.key.toString()] ??= []).push(shown(one))
  return lists
}

const codecs = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy }
const RECORDS = 60

function valueOf(codec, number) {
  if (number % 10 === 9) return null
  return `${codec}:${number}:` + 'x'.repeat(number === RECORDS - 2 ? 100_000 : number * 37)
}

async function roundtrip() {
  const topic = `${options.name}-roundtrip`
  await make(topic, 3)
  const sent = []
  const told = []
  for (const [codec, compression] of Object.entries(codecs)) {
    const messages = Array.from({ length: RECORDS }, (_, number) => ({
      key: `${codec}-${number % 5}`,
      value: valueOf(codec, number),
      headers: { codec, n: String(number) },
      timestamp: String(FIRST_MS + number)
    }))
    sent.push(...messages)
    const answers = await withProducer((producer) => producer.send({ topic, messages, compression, acks: -1 }))
    for (const { partition, baseOffset } of answers) told.push(`${codec} ${partition} ${baseOffset}`)
  }
  const got = await readAll(topic, sent.length)
  const shown = ({ value, headers, timestamp }) =>
    [value?.toString() ?? null, headers.codec.toString(), headers.n.toString(), timestamp].join(' ')
  expect('each key in its order', byKey(got, shown), byKey(sent, shown))
  const places = new Set(got.map(({ headers, partition, offset }) => `${headers.codec} ${partition} ${offset}`))
  expect('where the producer was told it begins', told.filter((place) => !places.has(place)), [])
}

async function group() {
  const topic = `${options.name}-group`
  const round = 240
  await make(topic, 12)
  const seen = new Set()
  let twice
  const take = ({ value }) => {
    if (seen.has(value.toString())) twice = value.toString()
    seen.add(value.toString())
  }
  const produce = (number) =>
    withProducer((producer) => {
      const messages = Array.from({ length: round }, (_, at) => ({
        partition: at % 12,
        key: 'key',
        value: `${number}:${at}`
      }))
      return producer.send({ topic, messages })
    })
  const wait = async (number) => {
    await until(`all of round ${number}`, () => seen.size >= number * round)
    expect(`after round ${number}`, [seen.size, twice], [number * round, undefined])
  }
  const [first, second] = [new Member(topic), new Member(topic)]
  await first.join(topic, take)
  await second.join(topic, take)
  await until('both share the partitions', () => first.partitions === 6 && second.partitions === 6)
  await produce(1)
  await wait(1)
  await second.leave()
  await produce(2)
  await wait(2)
  expect('what the last member has', first.partitions, 12)
  await first.leave()
  await produce(3)
  const third = await new Member(topic).join(topic, take)
  await wait(3)
  await third.leave()
}

async function seek() {
  const topic = `${options.name}-seek`
  await make(topic, 1)
  const messages = Array.from({ length: 100 }, (_, number) => ({
    key: 'key',
    value: String(number),
    timestamp: String(FIRST_MS + number * 1000)
  }))
  await withProducer((producer) => producer.send({ topic, messages }))
  const [at, late, ends] = await withAdmin(async (admin) => [
    (await admin.fetchTopicOffsetsByTimestamp(topic, FIRST_MS + 50_001))[0].offset,
    (await admin.fetchTopicOffsetsByTimestamp(topic, FIRST_MS + 100_000))[0].offset,
    (await admin.fetchTopicOffsets(topic))[0]
  ])
  expect('the offset behind the time', at, '51')
  // kafkajs gives the end where there is none.
  expect('behind all times', late, '100')
  expect('where it begins and ends', [ends.low, ends.high], ['0', '100'])
  let got = []
  const member = await new Member(`${topic}-group`).join(topic, ({ value }) => got.push(value.toString()))
  await until('all from the beginning on', () => got.includes('99'))
  expect('the first', got[0], '0')
  for (const [offset, first] of [[at, '51'], [ends.low, '0'], ['98', '98']]) {
    got = []
    member.consumer.seek({ topic, partition: 0, offset })
    await until(`the last after ${first}`, () => got.includes('99'))
    expect('from an offset on', got[0], first)
  }
  await member.leave()
}

async function topics(admin, topic) {
  expect('the brokers', (await admin.describeCluster()).brokers.length, 1)
  const made = {
    topics: [{ topic, numPartitions: 3, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '86400000' }] }]
  }
  expect('the topic is made', await admin.createTopics(made), true)
  expect('but once', await admin.createTopics(made), false)
  expect('it is listed', (await admin.listTopics()).includes(topic), true)
  const partitions = async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
  expect('its partitions', await partitions(), 3)
  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  await until('it has grown', async () => (await partitions()) === 5)
  const resource = { type: 2, name: topic }
  const retention = async () => {
    const { resources } = await admin.describeConfigs({ resources: [resource] })
    return resources[0].configEntries.find(({ configName }) => configName === 'retention.ms').configValue
  }
  expect('retention.ms', await retention(), '86400000')
  await admin.alterConfigs({
    resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '3600000' }] }]
  })
  await until('retention.ms is altered', async () => (await retention()) === '3600000')
}

async function groups(admin, topic, groupId) {
  const produce = (count) =>
    withProducer((producer) => {
      const messages = Array.from({ length: count }, (_, at) => ({ partition: at % 5, value: String(at) }))
      return producer.send({ topic, messages })
    })
  await produce(50)
  const got = []
  const member = await new Member(groupId).join(topic, ({ value }) => got.push(value))
  await until('the records', () => got.length >= 50)
  const described = async () => (await admin.describeGroups([groupId])).groups[0]
  const { state, members } = await described()
  expect('its state and members', [state, members.length, members[0].clientId], ['Stable', 1, options.name])
  const { assignment } = AssignerProtocol.MemberAssignment.decode(members[0].memberAssignment)
  expect('what the member has', [...assignment[topic]].sort(), [0, 1, 2, 3, 4])
  await member.leave()
  await until('the group is empty', async () => (await described()).state === 'Empty')
  expect('it is listed', (await admin.listGroups()).groups.some((one) => one.groupId === groupId), true)
  await produce(10)
  const committed = (await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions
  const ends = await admin.fetchTopicOffsets(topic)
  const sum = (offsets) => offsets.reduce((all, { offset }) => all + Number(offset), 0)
  expect('the lag', sum(ends) - sum(committed), 10)
}

async function administration() {
  const [topic, groupId] = [`${options.name}-admin`, `${options.name}-admin-group`]
  await withAdmin(async (admin) => {
    await topics(admin, topic)
    await groups(admin, topic, groupId)
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '5' }] })
    const begins = (await admin.fetchTopicOffsets(topic)).find(({ partition }) => partition === 0).low
    expect('where it begins after a deletion', begins, '5')
    await admin.deleteGroups([groupId])
    await until('the group is gone', async () =>
      (await admin.listGroups()).groups.every((one) => one.groupId !== groupId)
    )
    await admin.deleteTopics({ topics: [topic] })
    await until('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
  })
}

async function killed() {
  const topic = `${options.name}-killed`
  const between = 300
  await make(topic, 3)
  let [producing, failed, sent] = [true, undefined, 0]
  const record = (number) => ({ key: `k${number % 7}`, value: String(number) })
  const load = withProducer(async (producer) => {
    while (producing) {
      const messages = Array.from({ length: 5 }, (_, at) => record(sent + at))
      await producer.send({ topic, messages })
      sent += messages.length
      await pause(LOOK_EVERY_MS)
    }
  }).catch((error) => (failed = error))
  const seen = new Set()
  const member = await new Member(topic).join(topic, ({ value }) => seen.add(Number(value)))
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  for (let kill = 0; kill <= 2; kill++) {
    const goal = sent + between
    await until(`${goal} acknowledged`, () => {
      if (failed) throw failed
      return sent >= goal
    })
    if (kill === 2) break
    say({ waiting: 'kill' })
    if ((await lines.next()).done) throw new Error('nobody kills')
  }
  producing = false
  await load
  if (failed) throw failed
  await until(`the group's member has seen ${sent}, it has ${seen.size}`, () => seen.size >= sent)
  await member.leave()
  const shown = ({ value }) => Number(value)
  const wanted = Array.from({ length: sent }, (_, number) => record(number))
  expect('each once and in its order', byKey(await readAll(topic, sent), shown), byKey(wanted, shown))
}

async function comesIn(name) {
  await make(name, 1)
  const messages = Array.from({ length: 10 }, (_, number) => ({ value: String(number) }))
  await withProducer((producer) => producer.send({ topic: name, messages }))
  const got = []
  const member = await new Member(name).join(name, ({ value }) => got.push(value.toString()))
  await until('the records', () => got.length >= messages.length)
  await member.leave()
  const fetch = (admin) => admin.fetchOffsets({ groupId: name, topics: [name] })
  expect('what is committed', (await withAdmin(fetch))[0].partitions[0].offset, '10')
}

// The topic and the group are there; who has no rights is told so, by the code that kafkajs gives.
async function isRefused(name) {
  const calls = {
    // An idempotent one may be told when it asks for its id.
    producing: [
      ['TOPIC_AUTHORIZATION_FAILED', 'CLUSTER_AUTHORIZATION_FAILED'],
      () => withProducer((producer) => producer.send({ topic: name, messages: [{ value: 'x' }] }))
    ],
    // Which code it was kafkajs does not say.
    'asking for what a group has committed': [
      ['KafkaJSGroupCoordinatorNotFound'],
      () => withAdmin((admin) => admin.fetchOffsets({ groupId: name }))
    ],
    'asking where a topic ends': [
      ['TOPIC_AUTHORIZATION_FAILED'],
      () => withAdmin((admin) => admin.fetchTopicOffsets(name))
    ],
    'making a topic': [['TOPIC_AUTHORIZATION_FAILED'], () => make(`${name}-another`, 1)]
  }
  for (const [what, [codes, call]] of Object.entries(calls)) {
    const error = await call().then(() => undefined, (error) => error)
    const code = error?.type ?? error?.errors?.[0]?.type ?? error?.name ?? String(error)
    if (!codes.includes(code)) throw new Error(`${what} is answered with ${code}`)
  }
}

async function doors() {
  for (const text of options.door) {
    const door = Object.fromEntries(text.split(',').map((one) => one.split(/=(.*)/s).slice(0, 2)))
    kafka = clientAt(door)
    const name = `${options.name}-doors-${door.protocol}`
    try {
      await (door.rights === 'all' ? comesIn(name) : isRefused(name))
    } catch (error) {
      throw new Error(`${door.protocol} with rights to ${door.rights}: ${error}`)
    }
  }
}

const scenarios = { roundtrip, group, admin: administration, seek, killed, doors }

async function main() {
  for (const scenario of options.scenario.split(',')) {
    try {
      await scenarios[scenario]()
    } catch (error) {
      say({ scenario, error: String(error) })
      console.error(error)
      process.exit(1)
    }
    say({ scenario, passed: true })
  }
  process.exit(0)
}

main()
