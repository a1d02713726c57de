//! A fault: one cause at one place, with the setting or route that causes it and the command that fixes it.

use std::net::IpAddr;

use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    IngressDown,
    Source,
    ForwardingOff,
    NoRoute,
    Refused,
    ReversePath,
    EgressDown,
    NoCarrier,
    NextHop,
    Tunnel,
    ProxyArp,
    Unexplained,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::IngressDown => "ingress-down",
            Kind::Source => "source",
            Kind::ForwardingOff => "forwarding-off",
            Kind::NoRoute => "no-route",
            Kind::Refused => "refusing-route",
            Kind::ReversePath => "rp-filter",
            Kind::EgressDown => "egress-down",
            Kind::NoCarrier => "no-carrier",
            Kind::NextHop => "next-hop",
            Kind::Tunnel => "tunnel",
            Kind::ProxyArp => "proxy-arp",
            Kind::Unexplained => "unexplained",
        }
    }
}

/// Whether the packet or its answer meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    There,
    Back,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub way: Way,
    pub interface: String,
    /// How many more interfaces have the same fault.
    pub more: usize,
    pub text: String,
    pub key: Option<(String, i32)>,
    pub route: Option<String>,
    pub fix: Option<String>,
    /// It depends on the packet's mark, which was not specified.
    pub suspected: bool,
}

impl Fault {
    pub fn new(kind: Kind, way: Way, interface: &str, text: String) -> Fault {
        Fault {
            kind,
            way,
            interface: interface.into(),
            more: 0,
            text,
            key: None,
            route: None,
            fix: None,
            suspected: false,
        }
    }

    pub fn at(self, interface: &str) -> Fault {
        Fault { interface: interface.into(), ..self }
    }

    pub fn key(self, key: &str, value: i32) -> Fault {
        Fault { key: Some((key.into(), value)), ..self }
    }

    pub fn route(self, route: &str) -> Fault {
        Fault { route: Some(route.into()), ..self }
    }

    /// The command is pasted into a shell, so none with other characters in a name is offered.
    pub fn fix(self, command: String) -> Fault {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " ._:=/@,-".contains(c);
        Fault { fix: Some(command).filter(|command| command.chars().all(is_plain)), ..self }
    }

    /// It may not be one: it depends on the packet's mark, which was not specified. So no command is offered.
    pub fn suspected(self) -> Fault {
        Fault { suspected: true, fix: None, ..self }
    }

    /// Whether the fix of one fixes the other.
    pub fn is_same(&self, other: &Fault) -> bool {
        self.kind == other.kind && self.fix == other.fix && (self.fix.is_some() || self.text == other.text)
    }

    /// Whether another interface could be without it.
    pub fn is_of_interface(&self) -> bool {
        matches!(self.kind, Kind::ForwardingOff | Kind::ReversePath)
    }

    /// Its part of the verdict.
    pub fn sentence(&self) -> String {
        let way = if self.way == Way::Back { "on the way back, " } else { "" };
        let more = if self.more > 0 { format!(" (also on {} more)", self.more) } else { String::new() };
        format!("{way}{}{more}", self.text)
    }

    pub fn json(&self) -> Value {
        json!({
            "fault": self.kind.name(),
            "way": if self.way == Way::Back { "back" } else { "there" },
            "interface": self.interface,
            "more_interfaces": self.more,
            "text": self.text,
            "key": self.key.as_ref().map(|(key, _)| key),
            "value": self.key.as_ref().map(|(_, value)| value.to_string()),
            "route": self.route,
            "mend": self.fix,
        })
    }
}

/// The command that deletes a route to `to`, which `ip route` prints as `route`.
pub fn delete_route(to: IpAddr, route: &str) -> String {
    format!("ip{} route del {route}", six(to))
}

/// The command that makes a route; the gateway is for the administrator to know.
pub fn add_route(to: IpAddr) -> String {
    format!("ip{} route add {to} via GATEWAY", six(to))
}

/// The option that ip(8) needs for IPv6.
pub fn six(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " -6" } else { "" }
}
