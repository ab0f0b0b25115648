package oci

import "strings"

// orderLengths spell the number of digits of a number, two of them, so that longer numbers sort after shorter ones.
const orderLengths = "0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmno"

// The parts of a key in their order. Letters, in lower case, come last and stand for themselves.
const (
	orderPreRelease = '!' // the first dash of a version: 1.0.0-rc.1 is before 1.0.0
	orderEnd        = '#'
	orderDot        = '$'
	orderDash       = '%'
	orderUnderscore = '&'
	orderNumber     = '0'
)

// TagOrder returns a key whose byte order is the order in which people count tags: numbers by their value, a pre-release
// before its version, v1.2 beside 1.2, letters without regard to case. Tags that are equal so far are in byte order, so
// no two tags have the same key. It is ASCII, of at most 513 bytes for a valid tag.
func TagOrder(tag string) string {
	var b strings.Builder
	rest := tag
	if len(rest) > 1 && (rest[0] == 'v' || rest[0] == 'V') && isDigit(rest[1]) {
		rest = rest[1:]
	}
	version := rest != "" && isDigit(rest[0])
	for rest != "" {
		c := rest[0]
		if isDigit(c) {
			n := 1
			for n < len(rest) && isDigit(rest[n]) {
				n++
			}
			writeNumber(&b, rest[:n])
			rest = rest[n:]
			continue
		}
		switch {
		case c == '-' && version:
			version = false
			b.WriteByte(orderPreRelease)
		case c == '-':
			b.WriteByte(orderDash)
		case c == '.':
			b.WriteByte(orderDot)
		case c == '_':
			b.WriteByte(orderUnderscore)
		case 'A' <= c && c <= 'Z':
			b.WriteByte(c + 'a' - 'A')
		default:
			b.WriteByte(c)
		}
		rest = rest[1:]
	}
	b.WriteByte(orderEnd)
	b.WriteString(tag)
	return b.String()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// writeNumber writes digits as their number, without leading zeros, and the number itself.
func writeNumber(b *strings.Builder, digits string) {
	number := strings.TrimLeft(digits, "0")
	n := len(orderLengths)
	b.WriteByte(orderNumber)
	b.WriteByte(orderLengths[min(len(number)/n, n-1)])
	b.WriteByte(orderLengths[len(number)%n])
	b.WriteString(number)
}
