package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"
)

const (
	memcached    = "memcached://"
	heartbeatFix = "write file:, none:, memcached://HOST[:PORT] or memcached:///SOCKET"
	addressFix   = "write memcached://HOST[:PORT], or memcached:///SOCKET with an absolute path"
	portFix      = "not a port; write a number from 1 to 65535"
)

// checkURL returns an error if text does not name a heartbeat store of this version.
func checkURL(text string) error {
	scheme, rest, colon := strings.Cut(text, ":")
	switch {
	case text == "":
		return errors.New("empty; " + heartbeatFix)
	case text == "file:" || text == "none:":
		return nil
	case colon && (scheme == "file" || scheme == "none"):
		return fmt.Errorf("nothing may follow %s:; %s", scheme, heartbeatFix)
	case colon && slices.Contains([]string{"redis", "rediss", "etcd"}, scheme):
		return fmt.Errorf("%s is not in this version; %s", scheme, heartbeatFix)
	case strings.HasPrefix(strings.ToLower(text), memcached) && !strings.HasPrefix(text, memcached):
		return fmt.Errorf("not a heartbeat store; did you mean %s?", memcached+text[len(memcached):])
	case !strings.HasPrefix(text, memcached):
		return errors.New("not a heartbeat store; " + heartbeatFix)
	case strings.Contains(rest, ","):
		return errors.New("several servers are not in this version; name one")
	}
	_, err := MemcachedAddress(text)
	return err
}

// MemcachedAddress returns the HOST:PORT of a URL memcached://HOST[:PORT], as net.Dial takes it, or
// the path of a URL memcached:///SOCKET, as it is. The host is a name, an IPv4 address or an IPv6
// address in brackets. It contacts nothing.
func MemcachedAddress(text string) (string, error) {
	const bracketFix = "write memcached://[::1] or memcached://[::1]:11211"
	rest := strings.TrimPrefix(text, memcached)
	if strings.HasPrefix(rest, "/") {
		return rest, checkSocket(rest)
	}
	host, port := rest, ""
	inner, after, closed := strings.Cut(strings.TrimPrefix(rest, "["), "]")
	bracketed := strings.HasPrefix(rest, "[")
	switch {
	case strings.Contains(rest, "@"):
		return "", errors.New("memcached takes no user and password here; set heartbeat.password_file, and " + addressFix)
	case strings.ContainsAny(rest, "/?#"):
		return "", errors.New("nothing may follow host and port; " + addressFix)
	case bracketed && !closed:
		return "", errors.New("no ] after the IPv6 address; " + bracketFix)
	case bracketed:
		host, port = strings.Replace(inner, "%25", "%", 1), after // RFC 6874 writes a zone so
		ip, err := netip.ParseAddr(host)
		switch {
		case err != nil || !ip.Is6() || strings.ContainsFunc(host, isBlank):
			return "", errors.New("not an IPv6 address between [ and ]; " + bracketFix)
		case ip.IsLinkLocalUnicast() && !ip.Is4In6() && ip.Zone() == "":
			return "", fmt.Errorf("a link-local address is one of an interface; add that, as in memcached://[%s%%eth0]", ip)
		}
	case strings.Count(rest, ":") > 1:
		return "", errors.New("an IPv6 address needs brackets; " + bracketFix)
	default:
		if i := strings.IndexByte(rest, ':'); i >= 0 {
			host, port = rest[:i], rest[i:]
		}
		if _, err := netip.ParseAddr(host); err != nil && !isHostName(host) {
			return "", errors.New("not an address; " + addressFix)
		}
	}
	if port == "" {
		return net.JoinHostPort(host, "11211"), nil
	}
	number, colon := strings.CutPrefix(port, ":")
	if n, err := strconv.ParseUint(number, 10, 16); !colon || err != nil || n == 0 {
		return "", errors.New(portFix)
	}
	return net.JoinHostPort(host, number), nil
}

// checkSocket returns an error if path cannot be that of a Unix socket. A path is not decoded, so it
// must not look as if it were.
func checkSocket(path string) error {
	const most = len(syscall.RawSockaddrUnix{}.Path) - 1 // a NUL follows; unix(7)
	switch {
	case strings.ContainsAny(path, "?#,") || strings.ContainsFunc(path, isBlank):
		return errors.New("a space, a comma, ? or # in the path of the socket; choose another path")
	case path != filepath.Clean(path) || path == "/":
		return errors.New("not the path of a socket; write it like memcached:///run/memcached.sock")
	case len(path) > most:
		return fmt.Errorf("the path of the socket has %d bytes, and the system allows %d; choose a shorter one", len(path), most)
	}
	return nil
}

func isBlank(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// isHostName reports whether a resolver can look the name up: RFC 1123, section 2.1, with _
// allowed, which is usual in names of containers. A name whose last label is a number is a
// misspelled IPv4 address.
func isHostName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return r != '-' && isNotNameRune(r) }) {
			return false
		}
	}
	return len(name) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}
