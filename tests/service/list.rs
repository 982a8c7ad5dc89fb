//! Lists of locks: pages, filters, and the search for words.

use crate::harness::{LIST, Service};
use serde_json::{Value, json};

#[test]
fn a_list_is_divided_into_pages_on_request() {
    let service = Service::new();
    let ids: Vec<String> = (1..=5).map(|number| service.acquire(&format!("r{number}"), "ann")).collect();
    let list = |query: &str| service.get(&format!("{LIST}{query}")).ok();
    let ids_of = |list: &Value| -> Vec<String> {
        list["locks"].as_array().unwrap().iter().map(|lock| lock["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = list("");
    assert_eq!(ids_of(&all), ids);
    assert_eq!(
        (&all["totalCount"], &all["total"], &all["page"], &all["perPage"]),
        (&json!(5), &json!(5), &json!(1), &json!(5))
    );
    for query in ["?per_page=2&page=2", "?perPage=2&page=2"] {
        let page = list(query);
        assert_eq!(ids_of(&page), ids[2..4]);
        assert_eq!((&page["totalCount"], &page["page"], &page["perPage"]), (&json!(5), &json!(2), &json!(2)));
    }
    assert_eq!(ids_of(&list("?per_page=2&page=3")), ids[4..]);
    assert_eq!(ids_of(&list("?per_page=2&page=9")), [] as [String; 0]);
    // Without per_page, all locks are on page 1.
    for query in ["?page=2", "?page=4294967295", "?page=2&q=ann"] {
        let page = list(query);
        assert_eq!(
            (ids_of(&page), &page["totalCount"], &page["perPage"]),
            (Vec::new(), &json!(5), &json!(5)),
            "{query}"
        );
    }
    assert_eq!(ids_of(&list("?page=1")), ids);
    assert_eq!(ids_of(&list("?resource=r3&who=ann&service=web&environment=prod")), ids[2..3]);
    assert_eq!(ids_of(&list("?resource=r3&who=bob")), [] as [String; 0]);
    service.get(&format!("{LIST}?who={}", "a".repeat(1025))).expect_refusal(400, 3);
    for query in ["?page=0", "?per_page=0", "?page=x", "?per_page=-1", "?per_page=99999999"] {
        service.get(&format!("{LIST}{query}")).expect_refusal(400, 3);
    }
}

/// Checks which locks a search for words finds, in their order in the list.
pub(crate) fn check_search(service: &Service) {
    for (resource, who, more) in
        [("log", "Ann", r#""eventId":"Release 7""#), ("disk", "bob", ""), ("über", "ann", ""), ("logs", "eve", "")]
    {
        service.request(resource, who, more).ok();
    }
    let _waiter = service.start_waiting_for("disk", "Carl", r#""wait":"60s""#);
    service.wait_for_waiters("disk", 1);
    for (query, found, total) in [
        ("q=ann", &["log", "über"][..], 2),
        ("q=LOG", &["log", "logs"], 2),
        ("q=carl", &["disk"], 1),
        ("q=7+release", &["log"], 1),
        ("q=%C3%9CB", &["über"], 1),
        ("q=web+nobody", &[], 0),
        ("q=+", &["log", "disk", "über", "logs"], 4),
        ("q=d&per_page=1&page=2", &["disk"], 4),
        ("q=d&who=eve", &["logs"], 1),
    ] {
        let list = service.get(&format!("{LIST}?{query}")).ok();
        let names: Vec<&str> =
            list["locks"].as_array().unwrap().iter().map(|lock| lock["resource"].as_str().unwrap()).collect();
        assert_eq!((names.as_slice(), list["total"].as_u64()), (found, Some(total)), "{query}");
    }
    assert_eq!(service.list("q=carl")[0]["queue"][0]["who"], "Carl");
}

#[test]
fn a_list_can_be_searched_for_words() {
    check_search(&Service::new());
}
