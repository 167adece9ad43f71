use std::iter;

use iroh::Signature;
use proptest::prelude::*;

use super::*;

fn key(number: u16) -> SecretKey {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_bytes(&bytes)
}

fn id(number: u16) -> [u8; 32] {
    *key(number).public().as_bytes()
}

fn hint(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

/// A deployment with so many members, each of which lets all others in.
fn book(members: u16) -> Book {
    let partners: Vec<_> = (0..members).map(id).collect();
    let contact = |(id, number)| (id, PeerContact::new(id, vec![hint(number)]));
    let members = partners.iter().copied().zip(1..).map(contact).collect();
    Book { deployment: [3; 28], time: 1_000_000, members, partners, requesters: HashSet::new() }
}

fn notice(author: u16, book: &Book) -> Notice {
    Notice { author: id(author), time: book.time, clock: 1, hints: vec![hint(author)], holds: vec![[author as u8; 32]] }
}

fn signed(author: u16, book: &Book, change: impl FnOnce(&mut Notice)) -> SignedNotice {
    let mut notice = notice(author, book);
    change(&mut notice);
    notice.sign(&key(author), book)
}

/// As if so much time had passed since anything was heard or asked.
fn pass(gossip: &Gossip, time: Duration) {
    let mut state = gossip.state();
    for heard in state.heard.values_mut() {
        heard.since = heard.since.checked_sub(time).unwrap();
        heard.even = heard.even.checked_sub(time).unwrap();
    }
    state.answered.clear();
}

#[test]
fn what_is_heard_says_where_a_member_is_and_what_it_holds_until_it_says_something_else() {
    let (book, gossip) = (book(3), Gossip::new(key(0)));
    assert_eq!(gossip.take(&book, &[signed(1, &book, |_| ())]), Ok(1));
    assert_eq!((gossip.heard(), gossip.hints(&id(1))), (1, vec![hint(1)]));
    assert_eq!(gossip.holders(&[1; 32]), [id(1)]);
    // The same again, and an older one.
    let later = signed(1, &book, |notice| (notice.clock, notice.holds) = (2, vec![[9; 32]]));
    let older = signed(1, &book, |notice| notice.clock = 0);
    assert_eq!(gossip.take(&book, &[signed(1, &book, |_| ()), older.clone(), later.clone(), older]), Ok(1));
    assert_eq!((gossip.holders(&[1; 32]), gossip.holders(&[9; 32]).len()), (vec![], 1));
    // A later block counts for more than a clock.
    let next = |block| signed(1, &book, |notice| (notice.time, notice.clock) = (book.time + block, 0));
    assert_eq!(gossip.take(&book, &[next(1), later]), Ok(1));
    // Who says more than that goes on is heard now and then.
    let many: Vec<_> = (2..20).map(next).collect();
    assert_eq!(gossip.take(&book, &many), Ok(1));
    pass(&gossip, OWN_PAUSE);
    assert_eq!(gossip.take(&book, &many), Ok(1));
    pass(&gossip, OWN_PAUSE * 9);
    assert_eq!(gossip.take(&book, &many), Ok(4));
}

#[test]
fn who_is_no_member_and_what_is_of_another_time_is_passed_over() {
    let (book, gossip) = (book(2), Gossip::new(key(0)));
    let at = |time| signed(1, &book, |notice| notice.time = time);
    let long_ago = book.time - 3 * book.refresh() - SKEW;
    for passed_over in [signed(5, &book, |_| ()), signed(0, &book, |_| ()), at(long_ago - 1), at(book.time + SKEW + 1)]
    {
        assert_eq!(gossip.take(&book, &[passed_over]), Ok(0));
    }
    assert_eq!(gossip.take(&book, &[at(long_ago)]), Ok(1));
    gossip.renew(&Book { time: book.time + 1, ..book.clone() }, &[hint(1)]);
    assert_eq!(gossip.heard(), 0, "it has not been heard of for long");
    assert_eq!(gossip.take(&book, &[at(book.time)]), Ok(1));
    let (mut left, author) = (book.clone(), id(1));
    left.members.remove(&author);
    gossip.renew(&left, &[hint(1)]);
    assert_eq!((gossip.heard(), gossip.hints(&author)), (0, vec![]), "it is no member any more");
}

#[test]
fn what_nobody_has_signed_ends_an_exchange() {
    let (book, gossip) = (book(3), Gossip::new(key(0)));
    let good = signed(1, &book, |_| ());
    let elsewhere = Book { deployment: [4; 28], ..book.clone() };
    let borrowed = SignedNotice { signature: signed(2, &book, |_| ()).signature, ..good.clone() };
    let plain = SignedNotice { signature: key(1).sign(&good.body), ..good.clone() };
    let longer = SignedNotice { body: [&good.body[..], &[0]].concat(), ..good.clone() };
    let many = signed(1, &book, |notice| notice.holds = vec![[1; 32]; MAX_HOLDS + 1]);
    let everywhere = signed(1, &book, |notice| notice.hints = (0..9).map(hint).collect());
    let huge = SignedNotice { body: vec![0; MAX_NOTICE + 1], ..good.clone() };
    for forged in [signed(1, &elsewhere, |_| ()), borrowed, plain, longer, many, everywhere, huge] {
        assert_eq!(gossip.answer(&id(2), &book, std::slice::from_ref(&forged)), Err(Forged));
        assert_eq!(gossip.take(&book, &[forged]), Err(Forged));
    }
    assert_eq!(gossip.heard(), 0);
    // The longest that anybody may say fits.
    let longest = signed(1, &book, |notice| {
        notice.holds = vec![[255; 32]; MAX_HOLDS];
        notice.hints = vec![SocketAddr::new([0xffff; 8].into(), u16::MAX); 8];
        notice.clock = u64::MAX;
    });
    assert_eq!(gossip.take(&book, &[longest]), Ok(1));
}

proptest! {
    #[test]
    fn no_other_bytes_than_the_authors_are_taken(at in any::<proptest::sample::Index>(), flip in 1_u8.., cut in any::<bool>()) {
        let (book, gossip) = (book(2), Gossip::new(key(0)));
        let mut notice = signed(1, &book, |_| ());
        let mut signature = notice.signature.to_bytes();
        let at = at.index(notice.body.len() + signature.len());
        match notice.body.get_mut(at) {
            Some(_) if cut => notice.body.truncate(at),
            Some(byte) => *byte ^= flip,
            None => signature[at - notice.body.len()] ^= flip,
        }
        notice.signature = Signature::from_bytes(&signature);
        // Another author's name in it may be nobody's.
        prop_assert_ne!(gossip.take(&book, &[notice]), Ok(1));
        prop_assert_eq!(gossip.heard(), 0);
    }
}

#[test]
fn a_member_says_so_when_something_has_changed_and_now_and_then() {
    let (mut book, gossip) = (book(2), Gossip::new(key(0)));
    let said = || gossip.state().heard[&id(0)].notice.clone();
    gossip.renew(&book, &[hint(1)]);
    let first = said();
    assert_eq!((first.time, &first.hints[..]), (book.time, &[hint(1)][..]));
    book.time += REFRESH - 1;
    gossip.renew(&book, &[hint(1)]);
    gossip.hold(vec![[1; 32]; MAX_HOLDS + 1]);
    gossip.renew(&book, &[hint(2)]);
    assert_eq!(said(), first, "too soon");
    pass(&gossip, OWN_PAUSE);
    gossip.renew(&book, &[hint(2)]);
    assert_eq!((said().hints, said().holds.len()), (vec![hint(2)], MAX_HOLDS));
    book.time += REFRESH - 1;
    gossip.renew(&book, &[hint(2)]);
    assert_eq!(said().time, book.time + 1 - REFRESH);
    book.time += 1;
    gossip.renew(&book, &[hint(2)]);
    assert_eq!(said().time, book.time);
    // Also one whom the chain does not name: it is others who do not believe it.
    let stranger = Gossip::new(key(9));
    stranger.renew(&book, &[]);
    stranger.renew(&book, &[]);
    assert_eq!(stranger.news(&id(0)).0, [id(9)]);
}

#[test]
fn rounds_come_soon_while_there_is_news_and_seldom_without() {
    let (book, gossip) = (book(40), Gossip::new(key(0)));
    assert_eq!(gossip.pause(&book, &[]), EAGER_PAUSE);
    gossip.renew(&book, &[]);
    for _ in 0..EAGER_ROUNDS {
        assert_eq!(gossip.pause(&book, &[]), EAGER_PAUSE);
        gossip.begin();
    }
    assert_eq!(gossip.pause(&book, &[]), Duration::from_secs(20));
    for _ in 0..book.rounds() {
        let (authors, news) = gossip.news(&id(1));
        assert_eq!((&authors[..], news.len()), (&[id(0)][..], 1));
        gossip.told(&book, &id(1), &authors);
    }
    assert_eq!((gossip.pause(&book, &[]), gossip.news(&id(1)).1.len()), (LONGEST_PAUSE, 0));
    gossip.hold(vec![[1; 32]]);
    assert!(gossip.pause(&book, &[]) <= OWN_PAUSE && gossip.pause(&book, &[]) > EAGER_PAUSE);
    pass(&gossip, OWN_PAUSE);
    assert_eq!(gossip.pause(&book, &[]), EAGER_PAUSE);

    // That a member is still there is told as well, and hurries nobody.
    let (later, other) = (Book { time: book.time + book.refresh(), ..book.clone() }, Gossip::new(key(1)));
    gossip.hold(Vec::new());
    gossip.renew(&later, &[]);
    assert_eq!((gossip.pause(&later, &[]), gossip.news(&id(1)).1.len()), (LONGEST_PAUSE, 1));
    other.renew(&book, &[]);
    (0..EAGER_ROUNDS).for_each(|_| other.begin());
    other.told(&book, &id(0), &[id(1); 9]);
    other.take(&book, &[signed(2, &book, |_| ())]).unwrap();
    assert_eq!(other.pause(&book, &[]), Duration::from_secs(20));
    other.told(&book, &id(0), &[id(2); 9]);
    other.take(&book, &[signed(2, &book, |notice| notice.clock = 9)]).unwrap();
    assert_eq!((other.pause(&book, &[]), other.news(&id(0)).0), (LONGEST_PAUSE, vec![id(2)]));
}

#[test]
fn whoever_asks_too_often_hears_nothing_and_is_heard() {
    let (book, gossip) = (book(3), Gossip::new(key(0)));
    gossip.renew(&book, &[]);
    assert_eq!(gossip.answer(&id(1), &book, &[]).unwrap().len(), 1);
    assert_eq!(gossip.answer(&id(1), &book, &[signed(1, &book, |_| ())]).unwrap(), []);
    assert_eq!(gossip.heard(), 1);
    assert_eq!(gossip.answer(&id(2), &book, &[]).unwrap().len(), 2);
    // Nobody else hears less of it for that.
    for _ in 0..100 {
        pass(&gossip, PARTNER_PAUSE);
        assert_eq!(gossip.answer(&id(1), &book, &[]).unwrap().len(), 1);
    }
    assert_eq!(gossip.news(&id(2)).1.len(), 2);
    pass(&gossip, PARTNER_PAUSE);
    // Nobody is told what it has said itself.
    assert_eq!(gossip.answer(&id(1), &book, &[]).unwrap().len(), 1);
}

#[test]
fn what_nobody_is_to_hear_keeps_nobody_busy() {
    // Of two members each has news for nobody but its author.
    let (mut book, gossip) = (book(2), Gossip::new(key(0)));
    gossip.renew(&book, &[]);
    (0..EAGER_ROUNDS).for_each(|_| gossip.begin());
    gossip.take(&book, &[signed(1, &book, |_| ())]).unwrap();
    for _ in 0..book.rounds() {
        assert_eq!(gossip.pause(&book, &[]), EAGER_PAUSE);
        gossip.told(&book, &id(1), &gossip.news(&id(1)).0);
    }
    assert_eq!(gossip.pause(&book, &[]), LONGEST_PAUSE);
    // What a requester says is not passed on; its own it tells.
    book.requesters = [id(1)].into();
    gossip.take(&book, &[signed(1, &book, |notice| (notice.clock, notice.holds) = (2, Vec::new()))]).unwrap();
    assert_eq!((gossip.pause(&book, &[]), gossip.news(&id(5)).1), (LONGEST_PAUSE, vec![]));
    let requester = Gossip::new(key(1));
    requester.renew(&book, &[]);
    assert_eq!(requester.news(&id(0)).0, [id(1)]);
}

#[test]
fn what_only_its_author_was_met_with_is_kept_for_the_others() {
    let (book, gossip) = (book(3), Gossip::new(key(0)));
    gossip.take(&book, &[signed(1, &book, |_| ())]).unwrap();
    // The third one is left alone meanwhile: that many rounds are a minute.
    let met = |rounds: u32| (0..rounds).for_each(|_| gossip.told(&book, &id(1), &gossip.news(&id(1)).0));
    met(40);
    assert_eq!(gossip.news(&id(2)).0, [id(1)], "it is back");
    met(60);
    assert_eq!(gossip.news(&id(2)).0, [[0; 32]; 0], "not for ever");
}

#[test]
fn no_more_members_are_remembered_than_there_is_room_for() {
    let (book, gossip) = (book(3), Gossip::new(key(0)));
    gossip.renew(&book, &[]);
    assert_eq!(gossip.take(&book, &[signed(1, &book, |_| ())]), Ok(1));
    {
        let mut state = gossip.state();
        let known = &state.heard[&id(1)];
        let (notice, signed, since) = (known.notice.clone(), known.signed.clone(), Instant::now());
        let other = |number: u16| {
            let notice = Notice { author: id(number), ..notice.clone() };
            (
                id(number),
                Heard { notice, signed: signed.clone(), since, rounds: 0, with_author: 0, is_new: false, even: since },
            )
        };
        state.heard.extend((10..MAX_HEARD as u16 + 8).map(other));
        assert_eq!(state.heard.len(), MAX_HEARD);
    }
    assert_eq!(gossip.take(&book, &[signed(2, &book, |_| ())]), Ok(1));
    assert_eq!(gossip.heard(), MAX_HEARD - 1);
    assert!(gossip.hints(&id(1)).is_empty(), "the one that was heard of first makes room");
    assert!(gossip.state().heard.contains_key(&id(0)), "never its own");
}

/// Rounds until everybody has heard what `authors` say, each drawing its partners as it does.
fn rounds_until_all_know(members: u16, authors: u16) -> (u32, usize) {
    let book = book(members);
    let crowd: Vec<_> = (0..members).map(|number| Gossip::new(key(number))).collect();
    crowd[..authors.into()].iter().for_each(|author| author.renew(&book, &[]));
    let mut told = 0;
    let everybody_knows = || crowd.iter().all(|one| one.state().heard.len() == usize::from(authors));
    for round in 1.. {
        for one in &crowd {
            let partner = one.partner(&book).unwrap().endpoint;
            let other = crowd.iter().find(|other| other.me == partner).unwrap();
            let (authors, news) = one.news(&partner);
            let answer = other.answer(&one.me, &book, &news).unwrap();
            one.take(&book, &answer).unwrap();
            one.told(&book, &partner, &authors);
            told += news.len() + answer.len();
        }
        if everybody_knows() {
            return (round, told);
        }
        crowd.iter().for_each(|one| one.state().answered.clear());
        assert!(round < 100, "not everybody ever hears it");
    }
    unreachable!()
}

#[test]
fn news_reaches_everybody_in_about_as_many_rounds_as_doublings_and_ends_by_itself() {
    for (members, authors) in [(2, 1), (12, 12), (150, 1)] {
        let (rounds, told) = rounds_until_all_know(members, authors);
        let doublings = u32::from(members).ilog2() + 1;
        assert!(rounds <= 2 * doublings + 2, "{members} members: {rounds} rounds");
        // Each member tells a notice in no more rounds than it has for it, and in each is asked once on the average.
        let most = usize::from(members) * usize::from(authors) * 3 * book(members).rounds() as usize;
        assert!(told <= most, "{members} members: {told} told");
    }
    // News comes before what only says that somebody is still there, however many do.
    let (book, gossip) = (book(90), Gossip::new(key(0)));
    for author in 1..80 {
        gossip.take(&book, &[signed(author, &book, |_| ())]).unwrap();
        if author > 1 {
            gossip.told(&book, &id(85), &vec![id(author); 9]);
            gossip.take(&book, &[signed(author, &book, |notice| notice.clock = 2)]).unwrap();
        }
    }
    let (authors, _) = gossip.news(&id(85));
    assert_eq!((authors.len(), authors[0]), (MAX_NOTICES, id(1)));
    // It stays news when its author says once more that it is there.
    gossip.take(&book, &[signed(1, &book, |notice| notice.clock = 3)]).unwrap();
    assert_eq!(gossip.news(&id(85)).0[0], id(1));
    // More than fit into a message: what is newer comes first, and the rest after it.
    let (rounds, _) = rounds_until_all_know(100, 100);
    assert!(rounds < 40, "{rounds}");
}

#[test]
fn partners_are_mostly_those_that_were_heard_of_and_never_who_was_not_reached() {
    let (book, gossip) = (book(50), Gossip::new(key(0)));
    gossip.take(&book, &[signed(7, &book, |_| ())]).unwrap();
    let drawn = iter::repeat_with(|| gossip.partner(&book).unwrap().endpoint).take(400);
    let (known, others): (Vec<_>, Vec<_>) = drawn.partition(|endpoint| *endpoint == id(7));
    assert!(known.len() > 200 && others.len() > 40, "{} {}", known.len(), others.len());
    assert!(!others.contains(&id(0)));
    gossip.shun(&id(7), AWAY);
    assert!(iter::repeat_with(|| gossip.partner(&book).unwrap()).take(400).all(|partner| partner.endpoint != id(7)));
    (1..50).for_each(|number| gossip.shun(&id(number), AWAY));
    assert_eq!(gossip.partner(&book), None);
    gossip.shun(&id(8), Duration::ZERO);
    assert_eq!(gossip.partner(&book).map(|partner| partner.endpoint), Some(id(8)));
}
