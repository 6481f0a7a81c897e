use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::{Actions, Done, Offer, Refused, router};

#[derive(Default)]
struct Told {
    n_acts: AtomicUsize,
}

impl Actions for Told {
    fn offer(&self, token: &str) -> Result<Offer, Refused> {
        match token {
            "old" => Err(Refused::Expired),
            "good" | "broad" => Ok(Offer {
                labels: vec![("alertname".to_owned(), "<script>\"x\"".to_owned())],
                length: "for 1 hour".to_owned(),
                n_alerts: if token == "broad" { 51 } else { 50 },
                examples: vec!["<b>".to_owned()],
                author: "silence by mail link: ops".to_owned(),
            }),
            _ => Err(Refused::Forged),
        }
    }

    fn act(&self, token: &str) -> Result<Done, Refused> {
        self.offer(token)?;
        self.n_acts.fetch_add(1, Ordering::Relaxed);
        Ok(Done { silence: "abc".to_owned(), until: "later".to_owned(), is_old: false })
    }
}

fn ask(told: &Arc<Told>, method: &str, uri: &str, body: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(uri).body(Body::from(body.to_owned())).unwrap();
    let router = router(Arc::clone(told) as Arc<dyn Actions>);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        if status != StatusCode::METHOD_NOT_ALLOWED {
            assert_eq!(response.headers()["cache-control"], "no-store");
            let policy = response.headers()["content-security-policy"].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        }
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    })
}

#[test]
fn opening_a_link_changes_nothing_and_the_button_does() {
    let told = Arc::new(Told::default());
    let (status, page) = ask(&told, "GET", "/alerts/act?t=good", "");
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("name=\"t\" value=\"good\"") && page.contains("method=\"post\""), "{page}");
    assert!(
        page.contains("&lt;script&gt;&quot;x&quot;") && !page.contains("<script>") && !page.contains("<b>,")
    );
    assert!(!page.contains("class=\"warning\""), "{page}");
    ask(&told, "HEAD", "/alerts/act?t=good", "");
    assert_eq!(told.n_acts.load(Ordering::Relaxed), 0);
    let (status, page) = ask(&told, "POST", "/alerts/act", "t=good");
    assert!(status == StatusCode::OK && page.contains("abc") && page.contains("later"), "{page}");
    assert_eq!(told.n_acts.load(Ordering::Relaxed), 1);
    assert_eq!(ask(&told, "DELETE", "/alerts/act?t=good", "").0, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn broad_silences_are_warned_of_and_bad_links_explained() {
    let told = Arc::new(Told::default());
    assert!(ask(&told, "GET", "/alerts/act?t=broad", "").1.contains("class=\"warning\""));
    for (token, status, text) in [
        ("old", StatusCode::GONE, "This link has expired"),
        ("x", StatusCode::FORBIDDEN, "This link does not work"),
        ("", StatusCode::FORBIDDEN, "This link does not work"),
    ] {
        for method in ["GET", "POST"] {
            let (found, page) = ask(&told, method, &format!("/alerts/act?t={token}"), &format!("t={token}"));
            assert!(found == status && page.contains(text), "{method} {token}: {page}");
        }
    }
    assert_eq!(told.n_acts.load(Ordering::Relaxed), 0);
}
