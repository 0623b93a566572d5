//! `listener`, the default listener, and who may come in by them.

use super::draft::Draft;
use super::lines::{Line, Problem};
use super::report::{Fate, Report};

/// What the whole file says of listeners.
#[derive(Debug)]
pub(super) struct Listeners {
    per_listener: bool,
    /// In the order of the file; the default one first.
    drafts: Vec<Draft>,
    security: Security,
    /// Something that keeps clients out there, and is not here.
    guard: Option<Line>,
}

/// Options that say who may come or do something, and have nothing in their place here.
const GUARDS: [&str; 7] = [
    "auth_plugin",
    "clientid_prefixes",
    "global_plugin",
    "plugin",
    "plugin_load",
    "plugin_use",
    "use_username_as_clientid",
];

/// Of the whole node, or of one listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Security {
    pub(super) anonymous: Option<bool>,
    pub(super) acl_file: Option<Line>,
    pub(super) password_file: Option<Line>,
}

/// What goes into the result.
#[derive(Debug, Default)]
pub(super) struct ListenersText {
    pub(super) yaml: String,
    pub(super) password_files: Vec<Line>,
    pub(super) acl_file: Option<Line>,
    pub(super) lets_anonymous_in: bool,
    /// By one at least nobody comes in without a name.
    pub(super) asks_somewhere: bool,
    pub(super) names_users: bool,
}

impl Listeners {
    pub(super) fn new(per_listener: bool) -> Self {
        let default = Draft::of_default();
        Self {
            per_listener,
            drafts: vec![default],
            security: Security::default(),
            guard: None,
        }
    }

    /// An option that is not carried over.
    pub(super) fn guarded_by(&mut self, line: &Line) {
        if self.guard.is_none() && GUARDS.contains(&line.option.as_str()) {
            self.guard = Some(line.clone());
        }
    }

    pub(super) fn take(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        match line.option.as_str() {
            "listener" => self.drafts.push(Draft::open(line)?),
            "port" | "bind_address" => self.drafts[0].take(line, report)?,
            _ => {
                let draft = self.drafts.last_mut();
                draft.map_or(Ok(()), |draft| draft.take(line, report))?;
            }
        }
        Ok(())
    }

    /// Of the listener where `per_listener_settings` says so.
    pub(super) fn secure(&mut self, line: &Line, report: &mut Report) -> Result<(), Problem> {
        let security = match (self.per_listener, self.drafts.last_mut()) {
            (true, Some(draft)) => &mut draft.security,
            _ => &mut self.security,
        };
        match line.option.as_str() {
            "allow_anonymous" => {
                security.anonymous = Some(line.boolean()?);
                report.add(line, Fate::Mapped, "anonymous of the listeners");
            }
            "acl_file" => {
                line.text()?;
                security.acl_file = Some(line.clone());
            }
            "password_file" => {
                line.text()?;
                security.password_file = Some(line.clone());
            }
            "psk_file" => report.not_carried(line, "there is no TLS by a shared key"),
            other => unreachable!("{other} is not about who comes in"),
        }
        Ok(())
    }

    pub(super) fn finish(self, report: &mut Report) -> ListenersText {
        let Self {
            per_listener,
            mut drafts,
            security,
            guard,
        } = self;
        let is_local = drafts.len() == 1 && drafts[0].port.is_none() && drafts[0].host.is_none();
        if drafts[0].opened.is_none() && !is_local {
            drafts.remove(0);
        }
        let of = |draft: &Draft| match per_listener {
            true => draft.security.clone(),
            false => security.clone(),
        };
        let mut text = ListenersText::default();
        for draft in &drafts {
            if let Some(file) = of(draft).password_file
                && !text
                    .password_files
                    .iter()
                    .any(|other| other.value == file.value)
            {
                text.password_files.push(file);
            }
        }
        let acl_files: Vec<_> = drafts
            .iter()
            .filter_map(|draft| of(draft).acl_file)
            .collect();
        text.acl_file = acl_files.first().cloned();
        for file in &acl_files {
            if Some(&file.value) != text.acl_file.as_ref().map(|first| &first.value) {
                report.not_carried(file, "there is one set of rules for all listeners: that of the first acl_file; listeners with another are left out");
            }
        }
        let knows_users = !text.password_files.is_empty();
        if text.password_files.len() > 1 {
            for file in &text.password_files[1..] {
                report.not_carried(file, "there is one file of users for all listeners: that of the first password_file; listeners with another are left out");
            }
        }
        for mut draft in drafts {
            let security = of(&draft);
            let has_other_rules = match (&security.acl_file, &text.acl_file) {
                (Some(own), Some(taken)) => own.value != taken.value,
                (None, Some(_)) => {
                    draft.tell(
                        report,
                        Fate::Differs,
                        "the rules of the other listeners' acl_file count here, too",
                    );
                    false
                }
                _ => false,
            };
            if has_other_rules && draft.barred.is_none() {
                draft.barred = security.acl_file.clone().map(|line| (line, "left out"));
            }
            let own_users = security.password_file.as_ref();
            let users = text.password_files.first();
            let has_other_users =
                own_users.is_some_and(|own| users.is_some_and(|users| own.value != users.value));
            if has_other_users && draft.barred.is_none() {
                draft.barred = own_users.cloned().map(|line| (line, "left out"));
            }
            if let Some(line) = guard.as_ref().filter(|_| draft.barred.is_none()) {
                let why = "it keeps clients out that would come in here: listeners are left out";
                draft.barred = Some((line.clone(), why));
            }
            let anonymous = draft.anonymous.or(security.anonymous).unwrap_or(is_local);
            let can_prove = security.password_file.is_some();
            if let Some(yaml) = draft.finish(is_local, anonymous, can_prove, knows_users, report) {
                text.lets_anonymous_in |= anonymous;
                text.asks_somewhere |= !anonymous;
                text.names_users |= can_prove || draft.names_user;
                text.yaml.push_str(&yaml);
            }
        }
        text
    }
}
