//! An SMTP server for tests that does what each test wants of it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server does at a command, at the greeting (an empty line) or at the end of a message (a dot).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// What a server that agrees with everything would say.
    Agree,
    Say(String),
    HangUp,
    /// Says nothing any more.
    Sleep,
}

pub(super) fn say(text: &str) -> Act {
    Act::Say(text.to_owned())
}

/// What the server saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) connections: usize,
    pub(super) open: usize,
    pub(super) most_open: usize,
    pub(super) commands: Vec<String>,
    /// Recipients and text of what was accepted.
    pub(super) messages: Vec<(Vec<String>, String)>,
}

pub(super) struct Fake {
    pub(super) address: String,
    pub(super) seen: Arc<Mutex<Seen>>,
}

type Script = dyn FnMut(&str, &Seen) -> Act + Send;

impl Fake {
    pub(super) async fn start(script: impl FnMut(&str, &Seen) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, script) = (Arc::clone(&shared), Arc::clone(&script));
                tokio::spawn(async move {
                    {
                        let mut seen = seen.lock();
                        seen.connections += 1;
                        seen.open += 1;
                        seen.most_open = seen.most_open.max(seen.open);
                    }
                    let _ = serve(stream, &seen, &script).await;
                    seen.lock().open -= 1;
                });
            }
        });
        Self { address, seen }
    }

    pub(super) fn messages(&self) -> Vec<(Vec<String>, String)> {
        self.seen.lock().messages.clone()
    }

    pub(super) fn count(&self, verb: &str) -> usize {
        self.seen.lock().commands.iter().filter(|line| line.starts_with(verb)).count()
    }
}

async fn serve(stream: TcpStream, seen: &Mutex<Seen>, script: &Mutex<Script>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let (mut to, mut message, mut login) = (Vec::new(), None::<String>, 0);
    let mut line = String::new();
    loop {
        let act = {
            let mut seen = seen.lock();
            if !line.is_empty() {
                seen.commands.push(line.clone());
            }
            (script.lock())(&line, &seen)
        };
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        let answer = match act {
            Act::HangUp => return Ok(()),
            Act::Sleep => std::future::pending().await,
            Act::Say(text) => text,
            Act::Agree => match verb.as_str() {
                "" => "220 fake".to_owned(),
                "EHLO" => "250-fake\r\n250 SIZE 10000000".to_owned(),
                "DATA" => "354 go on".to_owned(),
                "AUTH" if line == "AUTH LOGIN" => {
                    login = 2;
                    "334 VXNlcm5hbWU6".to_owned()
                }
                "AUTH" => "235 welcome".to_owned(),
                _ if login == 2 => {
                    login = 1;
                    "334 UGFzc3dvcmQ6".to_owned()
                }
                _ if login == 1 => {
                    login = 0;
                    "235 welcome".to_owned()
                }
                "QUIT" => "221 bye".to_owned(),
                _ => "250 fine".to_owned(),
            },
        };
        let is_good = answer.starts_with(['2', '3']);
        match verb.as_str() {
            "MAIL" | "RSET" => to.clear(),
            "RCPT" if is_good => to.push(line.clone()),
            "DATA" if is_good => message = Some(String::new()),
            "." if is_good => {
                let text = message.take().unwrap_or_default();
                seen.lock().messages.push((std::mem::take(&mut to), text));
            }
            _ => {}
        }
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
        if verb == "QUIT" {
            return Ok(());
        }
        loop {
            let Some(next) = lines.next_line().await? else { return Ok(()) };
            match &mut message {
                Some(text) if verb == "DATA" && is_good && next != "." => {
                    text.push_str(next.strip_prefix('.').unwrap_or(&next));
                    text.push_str("\r\n");
                }
                _ => {
                    line = next;
                    break;
                }
            }
        }
    }
}
