#!/bin/bash
# network.sh ADDRESS SERVICES PODS: the network of the node, run inside. There is no default route.
set -euo pipefail
ip link set lo up
ip addr add "$1" dev uplink
ip link set uplink up
# packets of the node itself need some route before a Service's address is rewritten
ip route add "$2" dev lo src "${1%/*}"
ip route add unreachable "$3" metric 4000
echo 1 > /proc/sys/net/ipv4/ip_forward
# pods answer the machine outside but open no connection to it
nft -f - << 'N'
table inet ixt {
  chain forward {
    type filter hook forward priority 0; policy accept;
    oifname != "uplink" accept
    ct state established,related accept
    iifname "uplink" accept
    reject with icmpx type admin-prohibited
  }
}
N
