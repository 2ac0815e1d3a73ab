//! Every topology, every mode, at least two pairs of programs each, files of every size both ways; and that
//! nothing of it works without an ALG.

use anyhow::Result;

use crate::harness::{Alg, Client, Mode, STANDARD, ServerKind, Setup, Topology};

/// The modes that a topology has.
fn modes(topology: Topology) -> &'static [Mode] {
    if topology.is_over_ipv6() { &Mode::EXTENDED } else { &Mode::ALL }
}

/// Two pairs of programs, others for every topology and mode, so that all meet somewhere.
fn pairs(topology: Topology, mode: Mode) -> [(Client, ServerKind); 2] {
    let v6 = topology.is_over_ipv6();
    let clients = Client::ALL
        .into_iter()
        .filter(|client| client.supports(mode, v6) && client.suits(Alg::under_test()))
        .collect::<Vec<_>>();
    let (row, column) = (topology as usize, mode as usize);
    [0, 1].map(|pair| {
        let server = ServerKind::ALL[(2 * row + column + pair) % ServerKind::ALL.len()];
        let able = clients.iter().filter(|client| client.gets_along(server, mode)).collect::<Vec<_>>();
        (*able[(row + column + pair) % able.len()], server)
    })
}

fn every_mode_works(topology: Topology) -> Result<()> {
    let net = Setup::new(topology).build()?;
    for kind in ServerKind::ALL {
        let server = net.serve(kind)?;
        for &mode in modes(topology) {
            for (client, _) in pairs(topology, mode).into_iter().filter(|(_, server)| *server == kind) {
                net.tabled_session(client, mode, &server, &STANDARD)?;
            }
        }
    }
    net.finish()
}

fn nothing_works_without_an_alg(topology: Topology) -> Result<()> {
    let net = Setup::new(topology).alg(Alg::None).build()?;
    net.transfers_nothing(modes(topology), &net.serve(ServerKind::Vsftpd)?)?;
    net.finish()
}

macro_rules! topologies {
    ($($topology:ident: $works:ident, $fails:ident;)*) => {$(
        #[test]
        fn $works() -> Result<()> {
            every_mode_works(Topology::$topology)
        }

        #[test]
        fn $fails() -> Result<()> {
            nothing_works_without_an_alg(Topology::$topology)
        }
    )*};
}

topologies! {
    Masquerade: a_client_behind_masquerade_works, masquerade_needs_an_alg;
    SnatPool: data_leaves_from_the_address_of_control_where_the_router_has_several, snat_needs_an_alg;
    Dnat: a_server_behind_dnat_works, dnat_needs_an_alg;
    BothNat: both_ends_behind_nat_of_their_own_work, two_nat_routers_need_an_alg;
    Firewall: a_stateful_firewall_lets_data_through, a_stateful_firewall_needs_an_alg;
    Firewall6: a_stateful_firewall_lets_ipv6_data_through, an_ipv6_firewall_needs_an_alg;
    Masquerade6: a_client_behind_masquerade_works_over_ipv6, ipv6_masquerade_needs_an_alg;
    Dnat6: a_server_behind_dnat_works_over_ipv6, ipv6_dnat_needs_an_alg;
    Bridge: a_firewall_on_a_bridge_lets_data_through, a_firewall_on_a_bridge_needs_an_alg;
    ServerOnRouter: a_server_on_the_router_itself_works, a_server_on_a_strict_router_needs_an_alg;
    ClientOnRouter: a_client_on_the_router_itself_works, a_client_on_a_strict_router_needs_an_alg;
    Hairpin: a_client_reaches_a_server_in_its_own_lan_by_the_wan_address, hairpin_needs_an_alg;
}
