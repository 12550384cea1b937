//! What is made here has the CIDs that Kubo 0.43 gives with `ipfs add --only-hash`, its profile applied.

use super::*;

const MIB: u64 = 1 << 20;

/// The first bytes of 0, 1, … 250, 0, 1, …: equal chunks are 251 apart.
fn content(size: u64) -> impl Iterator<Item = Bytes> {
    // Pieces that fit no chunk.
    let turn: Bytes = (0..251).cycle().take(251 * 1031).collect::<Vec<u8>>().into();
    let pieces = (0..size).step_by(turn.len()).map(move |at| turn.slice(..turn.len().min((size - at) as usize)));
    pieces.collect::<Vec<_>>().into_iter()
}

fn file(profile: Profile, size: u64) -> Link {
    let (mut sink, mut file) = (Sink::nowhere(profile), FileBuilder::new(profile));
    content(size).for_each(|piece| file.push(piece, &mut sink).unwrap());
    file.finish(&mut sink).unwrap()
}

#[test]
fn files_of_every_shape() {
    for (size, v1, v0) in [
        (
            0,
            "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
            "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
        ),
        (
            1,
            "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu",
            "QmS9JArPwa55ePgDnyg6TzX24mYTS1b1vLqWNebyVotKxQ",
        ),
        (
            MIB / 4 - 1,
            "bafkreiagptg6ztonoojy4wflk3wwusl5xt4vcy6uult4wa7oemsjtxhjsu",
            "QmRfm83kqBpGJbGxJg1en9hpwq8eNnP4E2Dj8K73F4m983",
        ),
        (
            MIB / 4,
            "bafkreibruh455iawsviqslif5c7uurdcfdemh22mtnytyzvnzn75kpejxy",
            "QmeqfRyS3vkku7n6krqC3DgGMex3x2sCpSeKMDmrG13QQq",
        ),
        (
            MIB / 4 + 1,
            "bafkreidkcavdl3yt2jt36sd4cuqnqk2p6vaxq66iykemz6mk527hnbqbni",
            "QmUSjGawaz4ptvREcMKSMJneWCa5j8dAz2wSAAvHtW2rnB",
        ),
        (
            MIB,
            "bafkreidddocae7lltzjlkooe5a3tmiwsgazn7logjvqk7bzttsidpzhxne",
            "QmXgkY4miMKJBrg8YYke4xw6C2n8WNsUc1GXLhN84k4QM3",
        ),
        (
            MIB + 1,
            "bafybeidjogjfwuhbzwopgd4bn3skcf5m6oz72xshywcndzxgqb623nfclu",
            "QmXFGdWM6dMXHxGby9dZifmvH5ws2MwYCE1paUfJSp3Kj6",
        ),
        // As many chunks as a node has links with one profile, and a byte more.
        (
            174 * MIB / 4,
            "bafybeiggqdvj67urvpcb7gig76plkothth7jpx3cwjngax7mlgdgxy2mea",
            "QmXCym15aFeWjAWyPFaAgwVmkuKB7EBsV77Skt54KmxChF",
        ),
        (
            174 * MIB / 4 + 1,
            "bafybeih6tfqxgwyqtet2vaiqfjtdisrzv4cjmvm3ov6swdtljna55s4fle",
            "QmTedsTekQQkgACJXb1sPZSW8bLdS9LPMrT7L4YdjNRd4n",
        ),
        (
            175 * MIB / 4 + 1,
            "bafybeiaoiw2rprrzdag4ojn6hsymbximgsb5jjsxer35tvabctysq6nc6i",
            "QmfSNfmSo1Gg885jm8qFWAEe14nkjYc7bXgXjuvKWjVoKw",
        ),
        // And with the other.
        (
            1024 * MIB,
            "bafybeicwzrjcl3bf6vaai6cmvhdkgwnyezzlwmdqp3fnu33im55ssch6ve",
            "QmYrwiQudRxQfQcrExnr374evZfseSHH5kV9KnxZnX17S8",
        ),
        (
            1024 * MIB + 1,
            "bafybeicvbrlogmtthu7pz4o64c7yzm4v6dtshggbqsldxcm4fi2ftbxazu",
            "QmNbnFeTKANtmnL9G1JDBqwUZTgKu9SySNomNirzp9Tq1b",
        ),
    ] {
        let made = [Profile::V1, Profile::V0].map(|profile| file(profile, size));
        assert_eq!(made.map(|link| link.cid.to_string()), [v1, v0], "of {size} bytes");
        assert_eq!(made.map(|link| link.content), [size; 2]);
    }
}

#[test]
fn directories_below_and_above_the_size_of_a_block() {
    for (entries, v1, v0) in [
        (
            4946,
            "bafybeifpsnpikg23w6ghtcv64s5pnhyhf2jitgr7amaeok7zc4inpfvaea",
            "Qma6MrauRXo5PFnjv7TteecCUgFGYV7k3VqbvbXVEhY9Bd",
        ),
        (
            4947,
            "bafybeiaa4fmuuzosy5z45ezsuhincepvnqttij2lpnudxepvlezit7la6e",
            "QmdQDUfwMJtFhy12gb54jZr2CJwENE3U9sfskxqrE1fBLc",
        ),
        (
            6096,
            "bafybeifx23tbrmo3wdiei33kwuauoh6yndby7opz73ua33ztvjant6ob5a",
            "QmWqa4nVSKiuXn5g38ncUzQWyggctDepyMDK7qy3CG3icF",
        ),
        (
            6097,
            "bafybeiekklmteh4hc74humh5i6ysm6htzz3vzn5c5oo4ajczdkeo3in4mu",
            "QmWBdedTntkQTfbCtyrA2etA4dn5TJX6MrzRexv7cWabV9",
        ),
        (
            20_000,
            "bafybeibebtxxztfpjqg7dbzduznlqjjgbz6nwdox2uodst2vhatns5pzea",
            "Qmf6YvMLuGFtcAhhSa7W65sGom5Bx2YvRXyqjW1R4QafLs",
        ),
    ] {
        let made = [Profile::V1, Profile::V0].map(|profile| {
            let empty = file(profile, 0);
            let names = (0..entries).map(|at| (format!("tag-{at:05}"), empty)).collect();
            directory(profile, &names, &mut Sink::nowhere(profile)).unwrap().cid.to_string()
        });
        assert_eq!(made, [v1, v0], "of {entries} names");
    }
}

/// Names whose hashes were made to be the same can be in a registry, but no directory of IPFS holds both.
#[test]
fn names_with_one_hash() {
    let link = file(Profile::V1, 0);
    let entries = [([7; 8], "one", link), ([7; 8], "other", link)];
    let refused = shard(Version::V1, &entries, 0, &mut Sink::nowhere(Profile::V1)).unwrap_err();
    assert!(matches!(refused, IpfsError::SameHash { .. }), "{refused}");
}
