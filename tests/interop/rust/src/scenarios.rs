//! What each client of `tests/interop` does; `../README.md` beside this folder says when it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Debug;

use crate::Options;
use crate::client::{Client, How, Message, Publish};

const MESSAGES: usize = 20;
const LARGE_BYTES: usize = 100_000;
/// So much of a wrong payload is shown.
const SHOWN_MAX: usize = 300;

/// Why a scenario does not hold.
#[derive(Debug)]
pub struct Failure(pub String);

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub async fn run(scenario: &str, options: &Options) -> Result<(), Failure> {
    match scenario {
        "qos" => qos(options).await,
        "retained" => retained(options).await,
        "will" => will(options).await,
        "shared" => shared(options).await,
        "request_response" => request_response(options).await,
        "session" => session(options).await,
        _ => Err(Failure("there is no such scenario".to_owned())),
    }
}

fn payload(qos: u8, number: usize) -> String {
    let length = match number == MESSAGES - 1 {
        true => LARGE_BYTES,
        false => number * 37,
    };
    format!("{qos}:{number}:{}", "x".repeat(length))
}

fn payloads(qos: u8) -> Vec<String> {
    (0..MESSAGES).map(|number| payload(qos, number)).collect()
}

fn expect<T: PartialEq + Debug>(what: &str, got: T, wanted: T) -> Result<(), Failure> {
    if got == wanted {
        return Ok(());
    }
    let shown = |value: T| -> String { format!("{value:?}").chars().take(SHOWN_MAX).collect() };
    Err(Failure(format!(
        "{what}: {}, not {}",
        shown(got),
        shown(wanted)
    )))
}

fn plain(topic: &str, payload: impl Into<String>, qos: u8) -> Publish {
    let message = Message {
        topic: topic.to_owned(),
        payload: payload.into(),
        ..Message::default()
    };
    Publish { message, qos }
}

fn kept(topic: &str, payload: &str) -> Publish {
    let mut publish = plain(topic, payload, 1);
    publish.message.retain = true;
    publish
}

async fn connect(options: &Options, role: &str) -> Result<Client, Failure> {
    Client::connect(options, role, How::default()).await
}

/// What comes before the message on `topic`, by topic.
async fn until_end(
    client: &mut Client,
    topic: &str,
) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut got: BTreeMap<_, Vec<_>> = BTreeMap::new();
    loop {
        let message = client.take().await?;
        if message.topic == topic {
            return Ok(got);
        }
        got.entry(message.topic).or_default().push(message.payload);
    }
}

async fn qos(options: &Options) -> Result<(), Failure> {
    let topic = format!("{}/qos", options.name);
    let mut subscriber = connect(options, "qos-subscriber").await?;
    subscriber.subscribe(&format!("{topic}/#"), 2).await?;
    let mut publisher = connect(options, "qos-publisher").await?;
    let all = (0..3).flat_map(|qos| {
        let topic = format!("{topic}/{qos}");
        payloads(qos)
            .into_iter()
            .map(move |one| plain(&topic, one, qos))
    });
    publisher.publish(all.collect()).await?;
    let end = format!("{topic}/end");
    publisher.publish(vec![plain(&end, "end", 2)]).await?;
    let mut got = until_end(&mut subscriber, &end).await?;
    for qos in 0..3 {
        let of_it = got.remove(&format!("{topic}/{qos}")).unwrap_or_default();
        expect(&format!("QoS {qos}"), of_it, payloads(qos))?;
    }
    publisher.disconnect().await?;
    subscriber.disconnect().await
}

async fn take_two(client: &mut Client) -> Result<BTreeSet<(String, String, bool)>, Failure> {
    let mut got = BTreeSet::new();
    for _ in 0..2 {
        let message = client.take().await?;
        got.insert((message.topic, message.payload, message.retain));
    }
    Ok(got)
}

async fn retained(options: &Options) -> Result<(), Failure> {
    let folder = format!("{}/retained", options.name);
    let (stays, goes) = (format!("{folder}/kept"), format!("{folder}/cleared"));
    let mut publisher = connect(options, "retained-publisher").await?;
    let both = vec![kept(&stays, "kept"), kept(&goes, "cleared")];
    publisher.publish(both).await?;
    let mut early = connect(options, "retained-early").await?;
    early.subscribe(&format!("{folder}/#"), 1).await?;
    let there = (stays.clone(), "kept".to_owned(), true);
    let wanted = BTreeSet::from([there.clone(), (goes.clone(), "cleared".to_owned(), true)]);
    expect("on SUBSCRIBE", take_two(&mut early).await?, wanted)?;
    publisher.publish(vec![kept(&goes, "")]).await?;
    let mut late = connect(options, "retained-late").await?;
    late.subscribe(&format!("{folder}/#"), 1).await?;
    publisher.publish(vec![plain(&goes, "live", 1)]).await?;
    let wanted = BTreeSet::from([there, (goes, "live".to_owned(), false)]);
    expect("after it was cleared", take_two(&mut late).await?, wanted)?;
    publisher.publish(vec![kept(&stays, "")]).await?;
    for client in [publisher, early, late] {
        client.disconnect().await?;
    }
    Ok(())
}

async fn will(options: &Options) -> Result<(), Failure> {
    let topic = format!("{}/will", options.name);
    let with = |payload: &str| How {
        will: Some((topic.clone(), payload.to_owned())),
        ..How::default()
    };
    let mut watcher = connect(options, "will-watcher").await?;
    watcher.subscribe(&topic, 1).await?;
    let polite = Client::connect(options, "will-polite", with("polite")).await?;
    polite.disconnect().await?;
    let dying = Client::connect(options, "will-dying", with("gone")).await?;
    dying.die();
    expect("the will", watcher.take().await?.payload, "gone".to_owned())?;
    watcher.disconnect().await
}

async fn shared(options: &Options) -> Result<(), Failure> {
    let topic = format!("{}/shared", options.name);
    let mut one = connect(options, "shared-1").await?;
    let mut other = connect(options, "shared-2").await?;
    for member in [&mut one, &mut other] {
        member
            .subscribe(&format!("$share/group/{topic}"), 1)
            .await?;
    }
    let mut publisher = connect(options, "shared-publisher").await?;
    let mut wanted = payloads(1);
    wanted.extend(["end".to_owned(), "end".to_owned()]);
    for payload in &wanted {
        publisher
            .publish(vec![plain(&topic, payload.as_str(), 1)])
            .await?;
    }
    let (mut got, mut counts) = (Vec::new(), [0, 0]);
    while got.len() < wanted.len() {
        let (at, message) = tokio::select! {
            message = one.take() => (0, message?),
            message = other.take() => (1, message?),
        };
        counts[at] += 1;
        got.push(message.payload);
    }
    got.sort();
    wanted.sort();
    expect("all, once", got, wanted)?;
    if counts.contains(&0) {
        return Err(Failure(format!("one member got everything: {counts:?}")));
    }
    for client in [publisher, one, other] {
        client.disconnect().await?;
    }
    Ok(())
}

async fn request_response(options: &Options) -> Result<(), Failure> {
    let request = format!("{}/request", options.name);
    let response = format!("{}/response/requester", options.name);
    let mut responder = connect(options, "responder").await?;
    responder.subscribe(&request, 1).await?;
    let mut requester = connect(options, "requester").await?;
    requester.subscribe(&response, 1).await?;
    let mut question = plain(&request, "how warm?", 1);
    question.message.response_topic = Some(response.clone());
    question.message.correlation = Some("no-17".to_owned());
    requester.publish(vec![question.clone()]).await?;
    let asked = responder.take().await?;
    expect("the request", &asked, &question.message)?;
    let mut answer = plain(&asked.response_topic.unwrap_or_default(), "21.5", 1);
    answer.message.correlation = asked.correlation;
    responder.publish(vec![answer.clone()]).await?;
    expect("the response", requester.take().await?, answer.message)?;
    requester.disconnect().await?;
    responder.disconnect().await
}

async fn session(options: &Options) -> Result<(), Failure> {
    let topic = format!("{}/session", options.name);
    let persistent = How {
        persistent: true,
        ..How::default()
    };
    let mut away = Client::connect(options, "session-away", persistent.clone()).await?;
    away.subscribe(&format!("{topic}/#"), 2).await?;
    away.disconnect().await?;
    let mut before = connect(options, "session-before").await?;
    let all = (0..MESSAGES).flat_map(|number| {
        [1, 2].map(|qos| plain(&format!("{topic}/{qos}"), payload(qos, number), qos))
    });
    before.publish(all.collect()).await?;
    before.disconnect().await?;
    println!("{}", serde_json::json!({ "waiting": "restart" }));
    std::io::stdin().read_line(&mut String::new())?;
    let mut away = Client::connect(options, "session-away", persistent).await?;
    if !away.session_present {
        return Err(Failure("the session is gone".to_owned()));
    }
    let mut after = connect(options, "session-after").await?;
    let end = format!("{topic}/end");
    after.publish(vec![plain(&end, "end", 2)]).await?;
    let mut got = until_end(&mut away, &end).await?;
    let mut of = |qos: u8| got.remove(&format!("{topic}/{qos}")).unwrap_or_default();
    let (first, second) = (of(1), of(2));
    let mut seen = BTreeSet::new();
    let once = first.into_iter().filter(|one| seen.insert(one.clone()));
    expect("QoS 1, at least once", once.collect(), payloads(1))?;
    expect("QoS 2, once", second, payloads(2))?;
    after.disconnect().await?;
    away.disconnect().await
}
