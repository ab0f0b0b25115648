package layer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"
)

type kindCase struct {
	name, head string
	whole      bool
	want       string
}

// program returns the header of one, with program headers of some types.
func program(kind uint16, entry uint64, order binary.ByteOrder, types ...uint32) string {
	b := make([]byte, 64+56*len(types))
	copy(b, "\x7fELF\x02\x01\x01")
	if order == binary.BigEndian {
		b[5] = 2
	}
	order.PutUint16(b[16:], kind)
	order.PutUint16(b[18:], 0x3e)
	order.PutUint64(b[24:], entry)
	order.PutUint64(b[32:], 64)
	order.PutUint16(b[54:], 56)
	order.PutUint16(b[56:], uint16(len(types)))
	for i, typ := range types {
		order.PutUint32(b[64+56*i:], typ)
	}
	return string(b)
}

func kinds(t testing.TB) []kindCase {
	pixels := image.NewPaletted(image.Rect(0, 0, 30, 20), color.Palette{color.Black, color.White})
	encode := func(write func(*bytes.Buffer) error) string {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	p := encode(func(b *bytes.Buffer) error { return png.Encode(b, pixels) })
	j := encode(func(b *bytes.Buffer) error { return jpeg.Encode(b, pixels, nil) })
	g := encode(func(b *bytes.Buffer) error { return gif.Encode(b, pixels, nil) })
	bomb := []byte(p)
	binary.BigEndian.PutUint32(bomb[16:], 1<<30) // its checksum is wrong now
	const load, dynamic, interp = 1, 2, 3
	return []kindCase{
		{"empty", "", true, "text"},
		{"text", "a\tb\r\nc\f ä€😀", true, "text"},
		{"text that is cut", "ab\xe2\x82", false, "text"},
		{"text that ends wrong", "ab\xe2\x82", true, "bytes"},
		{"latin", "caf\xe9 au lait", false, "bytes"},
		{"zero", "a\x00b", true, "bytes"},
		{"escape", "a\x1b[31m", true, "bytes"},
		{"C1 control", "a\u009b31m", true, "bytes"},
		{"png", p, true, "png 30x20"},
		{"png, the header alone", p[:64], false, "png 30x20"},
		{"png, a broken header", string(bomb), true, "bytes"},
		{"jpeg", j, true, "jpeg 30x20"},
		{"gif", g, true, "gif 30x20"},
		{"gif that is text", "GIF89a", true, "text"},
		{"webp", "RIFF\x00\x00\x00\x00WEBPVP8 \x00\x00\x00\x00\x00\x00\x00\x9d\x01\x2a\x1e\x00\x14\x00", true, "webp 30x20"},
		{"webp, lossless", "RIFF\x00\x00\x00\x00WEBPVP8L\x00\x00\x00\x00\x2f\x1d\xc0\x04\x00\x00\x00\x00\x00\x00", true, "webp 30x20"},
		{"webp, extended", "RIFF\x00\x00\x00\x00WEBPVP8X\x00\x00\x00\x00\x00\x00\x00\x00\x1d\x00\x00\x13\x00\x00", true, "webp 30x20"},
		{"program", program(3, 4096, binary.LittleEndian, load, interp, dynamic), false, "EM_X86_64 ET_DYN 64 dynamic"},
		{"static", program(2, 4096, binary.LittleEndian, load), false, "EM_X86_64 ET_EXEC 64 static"},
		{"static, anywhere", program(3, 4096, binary.LittleEndian, load, dynamic), false, "EM_X86_64 ET_DYN 64 static"},
		{"library", program(3, 0, binary.LittleEndian, load, dynamic), false, "EM_X86_64 ET_DYN 64 dynamic"},
		{"big endian", program(2, 1, binary.BigEndian, load), false, "EM_X86_64 ET_EXEC 64 static"},
		{"object", program(1, 0, binary.LittleEndian), false, "EM_X86_64 ET_REL 64 unknown"},
		{"program that is cut", program(2, 1, binary.LittleEndian, load)[:100], false, "EM_X86_64 ET_EXEC 64 unknown"},
		{"short program", "\x7fELF", true, "bytes"},
	}
}

func TestSniff(t *testing.T) {
	for _, c := range kinds(t) {
		k := Sniff([]byte(c.head), c.whole)
		got := "bytes"
		switch {
		case k.Text:
			got = "text"
		case k.Image != nil:
			got = fmt.Sprintf("%s %dx%d", k.Image.Format, k.Image.Width, k.Image.Height)
		case k.ELF != nil:
			linked := "unknown"
			if k.ELF.Known {
				linked = map[bool]string{true: "dynamic", false: "static"}[k.ELF.Dynamic]
			}
			got = fmt.Sprintf("%s %s %d %s", k.ELF.Machine, k.ELF.Type, k.ELF.Bits, linked)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if !Sniff([]byte(strings.Repeat("ä", SniffSize)), true).Text {
		t.Error("long text is no text")
	}
}
