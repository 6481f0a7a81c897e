use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{Limits, Server};

/// A server on two ports; it stops when the sender goes.
async fn start(
    limits: Limits,
) -> ([std::net::SocketAddr; 2], oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/echo", post(async |body: String| body))
        .route(
            "/slow",
            get(async || {
                tokio::time::sleep(Duration::from_secs(1)).await;
                "slow"
            }),
        );
    let server = Server::new(limits, None);
    let (stop, stopped) = oneshot::channel::<()>();
    let (fan_out, _) = tokio::sync::broadcast::channel::<()>(1);
    let (mut addresses, mut tasks) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        let mut end = fan_out.subscribe();
        let shutdown = async move {
            let _ = end.recv().await;
        };
        tasks.push(tokio::spawn(std::sync::Arc::clone(&server).run(listener, router.clone(), shutdown)));
    }
    let all = tokio::spawn(async move {
        let _ = stopped.await;
        drop(fan_out);
        for task in tasks {
            task.await.unwrap();
        }
    });
    ([addresses[0], addresses[1]], stop, all)
}

const PLENTY: Limits = Limits { connections_max: 100, read_timeout: Duration::from_mins(5) };

/// Sends `request` and reads until `text` has come `n` times, or the end.
async fn ask(stream: &mut TcpStream, request: &str, text: &str, n: usize) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut heard = String::new();
    while heard.matches(text).count() < n {
        let mut buffer = [0; 1000];
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => heard.push_str(&String::from_utf8_lossy(&buffer[..n])),
            _ => break,
        }
    }
    heard
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";

#[tokio::test]
async fn connections_are_counted_over_all_listeners() {
    let ([one, other], _stop, _) = start(Limits { connections_max: 2, ..PLENTY }).await;
    let mut first = TcpStream::connect(one).await.unwrap();
    ask(&mut first, GET, "hello", 1).await;
    let mut second = TcpStream::connect(other).await.unwrap();
    ask(&mut second, GET, "hello", 1).await;
    // Nobody answers the third until one of them goes, on whichever port.
    let mut third = TcpStream::connect(one).await.unwrap();
    let answered = tokio::spawn(async move { ask(&mut third, GET, "hello", 1).await });
    ask(&mut first, GET, "hello", 1).await;
    assert!(!answered.is_finished());
    drop(second);
    assert!(answered.await.unwrap().contains("200 OK"));
}

#[tokio::test]
async fn the_kernel_asks_after_silent_clients() {
    let server = Server::new(PLENTY, None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, ..) = server.accept(&listener).await.unwrap();
    let socket = socket2::SockRef::from(&accepted);
    assert!(socket.keepalive().unwrap());
    let interval = Duration::from_secs(15);
    assert_eq!(
        (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap()),
        (interval, interval)
    );
}

#[tokio::test]
async fn requests_may_follow_each_other_at_once() {
    let ([address, _], _stop, _) = start(PLENTY).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let heard = ask(&mut stream, &format!("{GET}{POST}abcde{GET}"), "hello", 2).await;
    assert_eq!(heard.matches("200 OK").count(), 3, "{heard}");
    assert!(heard.contains("abcde"), "{heard}");
}

#[tokio::test]
async fn what_does_not_come_in_time_is_given_up() {
    let limits = Limits { read_timeout: Duration::from_millis(300), ..PLENTY };
    let ([address, _], _stop, _) = start(limits).await;
    let heard = async |request: String| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, &request, "never said", 1).await
    };
    // Each of them ends, or the test does not.
    assert_eq!(heard(String::new()).await, "");
    assert_eq!(heard("GET / HTTP".to_owned()).await, "");
    assert_eq!(heard(format!("{GET}GET / HT")).await.matches("200 OK").count(), 1);
    assert_eq!(heard(GET.to_owned()).await.matches("hello").count(), 1);
    let cut = heard(format!("{POST}abc")).await;
    assert!(cut.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{cut}");
    // What takes long to answer is nobody's fault.
    assert!(heard(GET.replace("/ ", "/slow ")).await.ends_with("slow"));
}

#[tokio::test]
async fn heads_have_a_longest() {
    let ([address, _], _stop, _) = start(PLENTY).await;
    let long =
        |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(n));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let heard = ask(&mut stream, &long(200 << 10), "never said", 1).await;
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.split();
    // It hangs up before it has read all of it.
    let (sent, mut heard) = (async { to.write_all(long(300 << 10).as_bytes()).await.is_ok() }, Vec::new());
    let _ = tokio::join!(sent, from.read_to_end(&mut heard));
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{heard}");
}

#[tokio::test]
async fn a_stop_lets_open_requests_end() {
    let ([address, other], stop, all) = start(PLENTY).await;
    let mut idle = TcpStream::connect(other).await.unwrap();
    ask(&mut idle, GET, "hello", 1).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(GET.replace("/ ", "/slow ").as_bytes()).await.unwrap();
    // It has begun once the server has read it, which it has when it answers another.
    let mut witness = TcpStream::connect(address).await.unwrap();
    ask(&mut witness, GET, "hello", 1).await;
    drop(stop);
    assert!(ask(&mut stream, "", "never said", 1).await.ends_with("slow"));
    assert_eq!(ask(&mut idle, "", "never said", 1).await, "");
    all.await.unwrap();
    TcpStream::connect(address).await.unwrap_err();
}
