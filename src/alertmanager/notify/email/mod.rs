//! Alerts as e-mails: composing the message and the session with the SMTP server.
//!
//! [`content`] is what a mail says, [`compose`] makes it a message of [`mime`] parts in a [`thread`],
//! [`fallback`] is for when that fails; [`session`] speaks SMTP and [`auth`] logs in;
//! the [`outbox`] keeps mails until they are accepted.
//!
//! Compat: alertmanager `notify/email` (0.34). A permanent reply ends the attempts, where upstream repeats
//! them until the deadline; one recipient that is refused does not keep the mail from the others.

mod address;
mod auth;
mod compose;
pub mod content;
#[cfg(test)]
mod fake;
mod fallback;
mod mime;
pub(in crate::alertmanager) mod outbox;
#[cfg(test)]
mod samples;
mod session;
mod thread;

use std::time::Duration;

use config::alertmanager::Email;
use tokio::time::Instant;

use super::{Failure, Message, Sent};
pub(in crate::alertmanager::notify) use compose::{Composed, Form, compose};
use session::{Fault, Session};

/// One attempt ends after this at the latest.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(5);

/// Composes and sends `message` at once; what it leaves behind is the thread it now belongs to.
pub(super) async fn send(config: &Email, message: &Message<'_>) -> Result<Sent, Failure> {
    let composed = compose(config, message, Form::Full).await?;
    let composed = match transmit(config, &composed).await {
        Err(fault) if fault.is_size() => {
            let small = compose(config, message, Form::Small).await?;
            transmit(config, &small).await?;
            small
        }
        done => {
            done?;
            composed
        }
    };
    Ok(Sent { id: Some(composed.thread.last.clone()), memory: composed.thread.into_memory() })
}

/// One session for one message. Somebody got it, unless it fails.
async fn transmit(config: &Email, mail: &Composed) -> Result<(), Fault> {
    let mut session = Session::open(config, Instant::now() + ATTEMPT_TIMEOUT).await?;
    let answers = session.transact(&mail.from, &mail.to, &mail.bytes).await;
    session.quit().await;
    let refused: Vec<_> =
        mail.to.iter().zip(answers?).filter_map(|(to, answer)| Some((to, answer.err()?))).collect();
    if refused.len() == mail.to.len() {
        // One that may be accepted later is reason to come back.
        let worst = refused.into_iter().map(|(_, fault)| fault).max_by_key(Fault::is_temporary);
        return worst.map_or(Ok(()), Err);
    }
    for (to, fault) in &refused {
        tracing::warn!(recipient = to, error = fault.message, "recipient refused, the others get the e-mail");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
