use super::*;

fn render(site: &Site) -> String {
    let files = Nginx.render(site).unwrap();
    files.into_iter().map(|file| file.text.to_string()).collect()
}

fn site(root: &str) -> Site {
    Site { root: root.to_owned(), listen: "127.0.0.1:5000".to_owned(), ..Site::default() }
}

#[test]
fn every_rule_is_visible() {
    for form in [Form::Site, Form::Snippet, Form::Standalone] {
        let text = render(&Site { form, ..site("/srv/registry") });
        for rule in RULES.iter() {
            if form == Form::Snippet && matches!(rule.pattern, PathPattern::Page | PathPattern::Outside) {
                continue;
            }
            for answer in rule.found.iter().chain([&rule.missing]) {
                if let Body::Fixed(body) = &answer.body {
                    let line = format!("return {} {};", answer.status.as_u16(), quoted(body));
                    assert!(text.contains(&line), "{form:?} lacks {line}");
                }
                for (name, value) in &answer.headers {
                    if let Value::Fixed(fixed) = value
                        && *name != ACCEPT_RANGES
                    {
                        let line = format!("add_header {} {} always;", site::spelled(name), quoted(fixed));
                        assert!(text.contains(&line), "{form:?} lacks {line}");
                    }
                }
            }
        }
    }
}

#[test]
fn odd_places_are_quoted_and_those_that_nginx_cannot_say_refused() {
    for (place, expected) in [
        ("/srv/a b;c{d}#e", "\"/srv/a b;c{d}#e/v2/"),
        ("/srv/\"x\"\\y'z", "\"/srv/\\\"x\\\"\\\\y'z/v2/"),
        ("$tree", "\"$tree/v2/"),
        ("/srv/${tree}s/", "\"/srv/${tree}s/v2/"),
        ("relative", "\"relative/v2/"),
    ] {
        assert!(render(&site(place)).contains(expected), "{place}");
    }
    for place in ["", "/a\nb", "/a\0b", "/a$", "/a$/b", "/a$1", "/a${b", "/a${}", "/a$ b", "$document_root/x"] {
        assert!(Nginx.render(&site(place)).is_err(), "{place:?} was accepted");
    }
}

#[test]
fn where_to_listen() {
    for good in ["80", "127.0.0.1:80", "[::1]:5000", "[::]:5000", "*:80", "localhost:80", "unix:/run/a b.sock"] {
        assert!(listen(good).is_ok(), "{good:?} was refused");
    }
    for bad in ["", "0", "80; include /etc/passwd", "a b:80", "host:", ":80", "unix:x", "unix:/a$b", "::1", "+80"] {
        assert!(listen(bad).is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn no_expression_tries_the_characters_of_a_name_again() {
    let text = render(&site("/srv/registry"));
    let [component, possessive] = COMPONENT;
    assert!(text.contains(possessive) && !text.contains(component), "{text}");
}
