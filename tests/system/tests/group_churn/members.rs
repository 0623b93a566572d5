//! The members of one group as processes: started, closed, killed, and stopped for longer than their sessions.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tidegate_system_tests::group_history::{Event, Member, now_ns, parse};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::random::Random;
use tidegate_system_tests::{wait, workspace};

/// Longer than a session: a member that was stopped so long is no member any more, and does not know it.
const STOPPED_FOR: Duration = Duration::from_secs(8);

/// One of so many places in the group is a static member's.
const STATIC_ONE_IN: usize = 4;

/// A client may wait for what is under way before it ends.
const CLOSES_WITHIN: Duration = Duration::from_secs(60);

/// Whose members they are.
pub struct Kind {
    pub group: &'static str,
    pub assignor: &'static str,
    pub clients: &'static [&'static str],
    pub topic: &'static str,
}

/// One process, over or not.
struct Life {
    name: String,
    process: Process,
    log: PathBuf,
    state: State,
    died_ns: Option<u64>,
    continued_ns: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    StoppedUntil(Instant),
    Closing,
    Over,
}

/// What was done to them.
#[derive(Debug, Default)]
struct Done {
    started: usize,
    closed: usize,
    killed: usize,
    stopped: usize,
}

pub struct Members {
    kind: Kind,
    kafka: SocketAddr,
    folder: PathBuf,
    /// Each place's lives, one after the other.
    places: Vec<Vec<Life>>,
    done: Done,
}

impl Members {
    pub fn new(kind: Kind, kafka: SocketAddr, folder: PathBuf, count: usize) -> Self {
        let mut places = Vec::new();
        places.resize_with(count, Vec::new);
        Self {
            kind,
            kafka,
            folder,
            places,
            done: Done::default(),
        }
    }

    pub fn start_all(&mut self) {
        for place in 0..self.places.len() {
            self.start(place);
        }
    }

    /// Waits until somebody was given something: the churn is to meet a group at work.
    pub fn wait_at_work(&self) {
        wait::until("the group is at work", wait::SOON * 4, || {
            let is_given = |event: &Event| matches!(event, Event::Assigned(it) if !it.is_empty());
            let members = self.histories();
            let mut said = members.iter().flat_map(|member| &member.entries);
            said.any(|entry| is_given(&entry.event)).then_some(())
        });
    }

    fn start(&mut self, place: usize) {
        let client = self.kind.clients[place % self.kind.clients.len()];
        let name = format!("{place}-{}-{client}", self.places[place].len());
        let log = self.folder.join(format!("{name}.log"));
        let mut command = workspace::python("group_member.py");
        command.args([client, self.kind.assignor, &self.kafka.to_string()]);
        command.args([self.kind.topic, self.kind.group]).arg(&log);
        if place % STATIC_ONE_IN == STATIC_ONE_IN - 1 {
            command.arg(format!("place-{place}"));
        }
        let output = self.folder.join(format!("{name}.out"));
        self.places[place].push(Life {
            process: Process::start(&name, command, &output),
            name,
            log,
            state: State::Running,
            died_ns: None,
            continued_ns: Vec::new(),
        });
        self.done.started += 1;
    }

    /// Lets time pass: who was stopped goes on, and who has ended is over.
    fn look(&mut self) {
        for life in self.places.iter_mut().filter_map(|lives| lives.last_mut()) {
            match life.state {
                State::StoppedUntil(until) if Instant::now() >= until => life.go_on(),
                State::Closing if life.process.exited().is_some() => life.state = State::Over,
                State::Running => {
                    let ended = life.process.exited();
                    let said = life.process.log();
                    assert!(ended.is_none(), "{} has ended: {said}", life.name);
                }
                _ => {}
            }
        }
    }

    /// One place's member comes, closes, dies, or is stopped.
    pub fn change_one(&mut self, random: &mut Random) {
        self.look();
        let place = random.below(self.places.len() as u64) as usize;
        let Some(life) = self.places[place].last_mut() else {
            return self.start(place);
        };
        match (life.state, random.below(7)) {
            (State::Over, _) => self.start(place),
            (State::Running, 0..3) => {
                life.close();
                self.done.closed += 1;
            }
            (State::Running, 3..6) | (State::StoppedUntil(_), 0) => {
                life.kill();
                self.done.killed += 1;
            }
            (State::Running, _) => {
                life.process.signal("STOP");
                life.state = State::StoppedUntil(Instant::now() + STOPPED_FOR);
                self.done.stopped += 1;
            }
            (State::Closing | State::StoppedUntil(_), _) => {}
        }
    }

    /// Nothing is done to anybody any more; somebody is there.
    pub fn calm(&mut self) {
        wait::until("who closes has closed", CLOSES_WITHIN, || {
            self.look();
            let lives = self.places.iter().filter_map(|lives| lives.last());
            let mut states = lives.map(|life| life.state);
            let is_calm = states.all(|state| matches!(state, State::Running | State::Over));
            is_calm.then_some(())
        });
        let lives = self.places.iter().filter_map(|lives| lives.last());
        if lives.into_iter().all(|life| life.state == State::Over) {
            self.start(0);
        }
    }

    /// Who runs and was never told what it is given. That may be nothing: where kafka-python leads with `range` or
    /// `roundrobin`, it leaves some members out when static ones are among them (its `groupby` wants a sorted list).
    pub fn without_word(&self) -> Vec<&str> {
        let lives = self.places.iter().filter_map(|lives| lives.last());
        let running = lives.filter(|life| life.state == State::Running);
        let without = running.filter(|life| {
            let said = parse(&fs::read_to_string(&life.log).unwrap_or_default());
            !said
                .iter()
                .any(|entry| matches!(entry.event, Event::Assigned(_)))
        });
        without.map(|life| life.name.as_str()).collect()
    }

    pub fn close_all(&mut self) {
        let lives = self.places.iter_mut().filter_map(|lives| lives.last_mut());
        let mut running: Vec<_> = lives.filter(|it| it.state == State::Running).collect();
        for life in &mut running {
            life.close();
        }
        for life in running {
            let status = life.process.wait(CLOSES_WITHIN);
            assert!(status.success(), "{}: {}", life.name, life.process.log());
        }
    }

    /// What each of them has said until now.
    pub fn histories(&self) -> Vec<Member> {
        let lives = self.places.iter().flatten();
        let members = lives.map(|life| Member {
            name: life.name.clone(),
            entries: parse(&fs::read_to_string(&life.log).unwrap_or_default()),
            died_ns: life.died_ns,
            continued_ns: life.continued_ns.clone(),
        });
        members.collect()
    }

    /// How much was done, and what was seen.
    pub fn said(&self) -> String {
        let members = self.histories();
        let count = |is_meant: fn(&Event) -> bool| {
            let said = members.iter().flat_map(|member| &member.entries);
            said.filter(|entry| is_meant(&entry.event)).count()
        };
        format!(
            "{:?}, {} times assigned, {} lost",
            self.done,
            count(|event| matches!(event, Event::Assigned(_))),
            count(|event| matches!(event, Event::Lost(_)))
        )
    }
}

impl Life {
    fn close(&mut self) {
        self.process.signal("TERM");
        self.state = State::Closing;
    }

    fn kill(&mut self) {
        self.process.kill();
        self.died_ns = Some(now_ns());
        self.state = State::Over;
    }

    fn go_on(&mut self) {
        self.process.signal("CONT");
        self.continued_ns.push(now_ns());
        self.state = State::Running;
    }
}
