//! Apache where only `.htaccess` files can be written. It tells what is there from what is missing, so the table holds, too.

use roadstead::host;
use roadstead::oci::Reference;
use roadstead::site::{Form, Site, Survey};
use roadstead_parts::{Emulated, Emulator, Folder};

use super::{HTACCESS, Hosted, hybrid};
use crate::cases::cases;
use crate::client::{Address, get};
use crate::conformance::{ask, run};
use crate::deviations;
use crate::fixture::Fixture;

/// Names of tags that a server would run, send for others or take for packed, if it went by their endings.
const ENDINGS: [&str; 8] = ["run.php", "run.PHTML.1", "run.cgi", "0", "page.shtml", "map.var", "1.tar.gz", "1.en.html"];

#[test]
fn apache_htaccess() {
    let hosted = Hosted::new("apache-htaccess", |fixture, site| {
        fixture.add("org/team/tool", &ENDINGS, &fixture.image);
        site.cors = true;
        site.survey = fixture.runtime.block_on(Survey::of(&fixture.tree)).unwrap();
    });
    let public = hosted.folder.join("site/public");
    assert!(!public.join("v2/org/team/tool/manifests/run.php").exists(), "there is a program to run");
    let emulated = hosted.emulate(Emulator::SharedHosting);
    hosted.check(&emulated, HTACCESS);
    hosted.is_asked(&emulated);
    hosted.pull(&emulated, &[]);
    complains_of_nothing_but(&emulated, &[]);
}

#[test]
fn apache_htaccess_answers_by_the_rules() {
    let fixture = Fixture::new();
    let survey = fixture.runtime.block_on(Survey::of(&fixture.tree)).unwrap();
    let hosted = Hosted {
        folder: Folder::new(),
        site: Site { survey, ..Site::default() },
        host: host::find("apache-htaccess").unwrap(),
        fixture,
    };
    hosted.publish();
    let emulated = hosted.emulate(Emulator::SharedHosting);
    // A site around it, in which everything that isn't there leads to one page.
    let public = hosted.folder.join("site/public");
    std::fs::write(public.join("index.html"), "mine").unwrap();
    let around = "RewriteEngine On\nRewriteCond %{REQUEST_FILENAME} !-f\nRewriteRule . /index.html [L]\n";
    std::fs::write(public.join(".htaccess"), around).unwrap();
    let address = Address::Tcp(emulated.authority().parse().unwrap());
    assert_eq!(get(&address, "/about").text(), "mine");
    let mut cases = cases(&hosted.fixture);
    cases.retain(|case| case.everywhere);
    deviations::of("apache-htaccess", &mut cases);
    run("apache-htaccess", &cases, |case| ask(&address, case, "Accept-Encoding: gzip\r\nConnection: close\r\n"));
    complains_of_nothing_but(&emulated, &["File name too long"]);
}

#[test]
fn apache_htaccess_takes_no_media_type_for_what_it_captured() {
    let odd = "application/vnd.example.$1&x+json";
    let fixture = Fixture::new();
    let mut survey = fixture.runtime.block_on(Survey::of(&fixture.tree)).unwrap();
    let (name, path) = {
        let (name, names) = survey.repositories.iter_mut().next().unwrap();
        let tag = names.iter_mut().find(|named| matches!(named.reference, Reference::Tag(_))).unwrap();
        tag.media_type = odd.parse().unwrap();
        (name.to_string(), tag.reference.to_string())
    };
    let (host, site) = (host::find("apache-htaccess").unwrap(), Site { survey, ..Site::default() });
    let hosted = Hosted { folder: Folder::new(), site, host, fixture };
    hosted.publish();
    let emulated = hosted.emulate(Emulator::SharedHosting);
    let address = Address::Tcp(emulated.authority().parse().unwrap());
    let answer = get(&address, &format!("/v2/{name}/manifests/{path}"));
    assert_eq!((answer.status, answer.header("content-type").as_deref()), (200, Some(odd)));
}

fn complains_of_nothing_but(emulated: &Emulated, known: &[&str]) {
    let log = emulated.log();
    let said = log.lines().filter(|line| !line.contains(":notice]") && !known.iter().any(|known| line.contains(known)));
    assert_eq!(said.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn apache_htaccess_with_blobs_elsewhere() {
    hybrid("apache-htaccess", Emulator::SharedHosting, Form::Site, HTACCESS);
}
