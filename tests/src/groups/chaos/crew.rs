//! The members of one group, as processes.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::process::{Signal, signal};

use super::Plan;
use crate::groups::history::{self, Event, What, now};
use crate::groups::member::Protocol;

/// How long a member may take to leave.
const LEAVE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Crew {
    plan: Plan,
    name: String,
    protocol: Protocol,
    // The ones that run, those that are paused among them.
    members: Vec<Member>,
    gone: Vec<Member>,
    // What only we know of them.
    events: Vec<Event>,
    count: u32,
}

#[derive(Debug)]
struct Member {
    name: String,
    child: Child,
    log: PathBuf,
    paused_until: Option<Instant>,
}

impl Crew {
    pub(super) fn new(plan: &Plan, name: &str, protocol: Protocol) -> Self {
        let (members, gone, events) = (Vec::new(), Vec::new(), Vec::new());
        Self { plan: plan.clone(), name: name.to_owned(), protocol, members, gone, events, count: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// How many are not paused.
    pub(super) fn active(&self) -> usize {
        self.members.iter().filter(|member| member.paused_until.is_none()).count()
    }

    pub(super) fn join(&mut self) -> Result<()> {
        self.count += 1;
        let name = format!("{}-m{}", self.name, self.count);
        let log = self.plan.dir.join(format!("{name}.history"));
        let errors = File::create(self.plan.dir.join(format!("{name}.log")))?;
        let protocol = clap::ValueEnum::to_possible_value(&self.protocol).context("a protocol has a name")?;
        let mut command = Command::new(&self.plan.member);
        command.args(["--bootstrap", &self.plan.bootstrap, "--group", &self.name, "--topic", &self.name]);
        command.args(["--protocol", protocol.get_name(), "--name", &name]).arg("--log").arg(&log);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(errors);
        let child = command.spawn().context("cannot start a member")?;
        self.members.push(Member { name, child, log, paused_until: None });
        Ok(())
    }

    /// Takes the `index`th of those that are not paused.
    fn take(&mut self, index: usize) -> Option<Member> {
        let mut active = self.members.iter().enumerate().filter(|(_, member)| member.paused_until.is_none());
        let (at, _) = active.nth(index)?;
        Some(self.members.remove(at))
    }

    /// Asks one to leave, without waiting for it.
    pub(super) fn leave(&mut self, index: usize) {
        if let Some(mut member) = self.take(index) {
            drop(member.child.stdin.take());
            self.gone.push(member);
        }
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self, index: usize) {
        if let Some(mut member) = self.take(index) {
            // From now on it may be dead, and owns nothing.
            self.note(&member.name, What::Killed);
            // Already gone is as good.
            let _ = member.child.kill();
            let _ = member.child.wait();
            self.gone.push(member);
        }
    }

    /// SIGSTOP.
    pub(super) fn pause(&mut self, index: usize, time: Duration) -> Result<()> {
        if let Some(mut member) = self.take(index) {
            self.note(&member.name, What::Paused);
            signal(&member.child, Signal::STOP)?;
            member.paused_until = Some(Instant::now() + time);
            self.members.push(member);
        }
        Ok(())
    }

    /// SIGCONT to those whose time has come.
    pub(super) fn resume_due(&mut self) -> Result<()> {
        self.resume(|until| until <= Instant::now())
    }

    pub(super) fn resume_all(&mut self) -> Result<()> {
        self.resume(|_| true)
    }

    fn resume(&mut self, due: impl Fn(Instant) -> bool) -> Result<()> {
        let mut resumed = Vec::new();
        for member in &mut self.members {
            if member.paused_until.is_some_and(&due) {
                signal(&member.child, Signal::CONT)?;
                member.paused_until = None;
                resumed.push(member.name.clone());
            }
        }
        resumed.iter().for_each(|name| self.note(name, What::Resumed));
        Ok(())
    }

    fn note(&mut self, member: &str, what: What) {
        self.events.push(Event { at: now(), member: member.to_owned(), what });
    }

    /// Makes all leave, and gathers what happened to everybody who was ever here.
    pub(super) fn finish(&mut self) -> Result<Vec<Event>> {
        self.gone.append(&mut self.members);
        let mut events = std::mem::take(&mut self.events);
        for member in &mut self.gone {
            drop(member.child.stdin.take());
            let deadline = Instant::now() + LEAVE;
            while member.child.try_wait()?.is_none() {
                ensure!(Instant::now() < deadline, "{} does not leave", member.name);
                std::thread::sleep(Duration::from_millis(20));
            }
            events.extend(history::read(&member.log)?);
        }
        // A member that ended by itself, or never began, has told nobody why.
        for member in &self.gone {
            let ended = |event: &&Event| event.member == member.name && matches!(event.what, What::Left | What::Killed);
            ensure!(events.iter().any(|event| ended(&event)), "{} ended without leaving", member.name);
        }
        Ok(events)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in self.members.iter_mut().chain(&mut self.gone) {
            // A paused one dies of it too.
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}
