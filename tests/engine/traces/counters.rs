//! What is counted of a conversation.

use ftpalg::engine::counters::Treatment;
use ftpalg::engine::event::{Departure, Mode};
use ftpalg::engine::policy::Refusal;
use ftpalg::engine::session::Tap;

use crate::conversation::Conversation;
use crate::router::Site;

#[test]
fn a_conversation_is_counted_line_by_line() {
    let mut talk = Conversation::new(Site::new(true, true)).connect();
    talk.exchange("PORT 10,0,0,2,19,137\r\n", "530 log in first\r\n");
    talk.exchange("USER a\r\n", "331 password\r\n");
    talk.exchange("PASS b\r\n", "230 ok\r\n");
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk.exchange("PORT 10,0,0,9,19,137\r\n", "500 no\r\n");
    talk.exchange("PORT 10,0,0,9,19,137\r\n", "500 no\r\n");
    talk.exchange("AUTH TLS\r\n", "234 go on\r\n");
    let counters = talk.world.router.engine.counters();
    assert_eq!((counters.connections, counters.greeted, counters.logins), (1, 1, 1));
    assert_eq!((counters.ended, counters.expired, counters.edits), (0, 0, 1));
    assert_eq!((counters.opened.of(Mode::Active), counters.opened.total()), (1, 1));
    assert_eq!(counters.refused.of(Refusal::NotLoggedIn), 1);
    assert_eq!((counters.refused.of(Refusal::ThirdParty), counters.refused.total()), (2, 3));
    assert_eq!((counters.departed.of(Departure::Encrypted), counters.departed.total()), (1, 1));
    let (to_server, to_client) = (counters.packets(Tap::ToServer), counters.packets(Tap::ToClient));
    for packets in [to_server, to_client] {
        assert!(packets.of(Treatment::Passed) >= 3, "{packets:?}");
        assert!(packets.of(Treatment::Edited) >= 5, "its SYN, and all that follow the edit: {packets:?}");
        assert_eq!(packets.of(Treatment::Malformed) + packets.of(Treatment::HeldUp), 0, "{packets:?}");
    }
    talk.closes();
    assert_eq!(talk.world.router.engine.counters().ended, 1);
}

#[test]
fn who_goes_away_without_a_word_is_counted_as_well() {
    let mut talk = Conversation::new(Site::new(true, true)).login();
    let later = talk.world.now + 6 * 24 * 3_600_000;
    talk.world.router.tick(later);
    let counters = talk.world.router.engine.counters();
    assert_eq!((counters.connections, counters.ended, counters.expired), (1, 0, 1));
}
