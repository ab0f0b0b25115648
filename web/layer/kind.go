package layer

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"unicode/utf8"
)

// SniffSize is how many of a file's first bytes Sniff wants to see, if there are as many.
const SniffSize = 64 << 10

// A Kind is what a file contains, for a viewer. When nothing is set it is shown as bytes.
type Kind struct {
	Text  bool   // as far as it was seen
	Image *Image // nil: none that browsers show
	ELF   *ELF   // nil: not a program or library of Unix
}

// An Image is what the header of a picture says.
type Image struct {
	Format        string // png, jpeg, gif or webp
	Width, Height int    // pixels
}

// ELF is what the header of a program says.
type ELF struct {
	Machine string // such as EM_X86_64
	Type    string // such as ET_DYN
	Bits    int    // 32 or 64, 0 if it says neither
	Dynamic bool   // needs an interpreter, or is a library
	Known   bool   // whether Dynamic is: the program headers were seen
}

// Sniff tells what a file contains by its first bytes. whole says that there are no more. Pictures are not decoded: a
// header cannot be a bomb.
func Sniff(head []byte, whole bool) Kind {
	if img := sniffImage(head); img != nil {
		return Kind{Image: img}
	}
	if e := sniffELF(head); e != nil {
		return Kind{ELF: e}
	}
	return Kind{Text: isText(head, whole)}
}

// isText reports whether bytes are UTF-8 without control characters, other than those that lay out text.
func isText(b []byte, whole bool) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return !whole && !utf8.FullRune(b) // cut in the middle of one
		}
		if isControl(r) {
			return false
		}
		b = b[n:]
	}
	return true
}

func isControl(r rune) bool {
	switch r {
	case '\t', '\n', '\r', '\f':
		return false
	}
	return r < ' ' || r >= 0x7f && r < 0xa0
}

func sniffImage(head []byte) *Image {
	var read func([]byte) (image.Config, error)
	format := ""
	switch {
	case bytes.HasPrefix(head, []byte("\x89PNG\r\n\x1a\n")):
		format, read = "png", func(b []byte) (image.Config, error) { return png.DecodeConfig(bytes.NewReader(b)) }
	case bytes.HasPrefix(head, []byte("\xff\xd8\xff")):
		format, read = "jpeg", func(b []byte) (image.Config, error) { return jpeg.DecodeConfig(bytes.NewReader(b)) }
	case bytes.HasPrefix(head, []byte("GIF87a")), bytes.HasPrefix(head, []byte("GIF89a")):
		format, read = "gif", func(b []byte) (image.Config, error) { return gif.DecodeConfig(bytes.NewReader(b)) }
	default:
		return sniffWebP(head)
	}
	c, err := read(head)
	if err != nil {
		return nil
	}
	return &Image{format, c.Width, c.Height}
}

// sniffWebP reads the header of the first chunk (RFC 9649, section 2).
func sniffWebP(b []byte) *Image {
	if len(b) < 30 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WEBP" {
		return nil
	}
	size := func(at int) int { return int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16 }
	switch string(b[12:16]) {
	case "VP8X":
		return &Image{"webp", size(24) + 1, size(27) + 1}
	case "VP8L":
		if b[20] == 0x2f {
			n := int(binary.LittleEndian.Uint32(b[21:]))
			return &Image{"webp", n&0x3fff + 1, n>>14&0x3fff + 1}
		}
	case "VP8 ":
		if b[23] == 0x9d && b[24] == 1 && b[25] == 0x2a {
			return &Image{"webp", int(binary.LittleEndian.Uint16(b[26:]) & 0x3fff), int(binary.LittleEndian.Uint16(b[28:]) & 0x3fff)}
		}
	}
	return nil
}

// sniffELF reads the header, and the program headers if they are in sight, as they are in programs that linkers make.
// debug/elf would want the whole file.
func sniffELF(b []byte) *ELF {
	if len(b) < 20 || string(b[:4]) != elf.ELFMAG {
		return nil
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(b[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	kind := elf.Type(order.Uint16(b[16:]))
	e := &ELF{Machine: elf.Machine(order.Uint16(b[18:])).String(), Type: kind.String()}
	var at, size, count uint64
	switch {
	case elf.Class(b[elf.EI_CLASS]) == elf.ELFCLASS64 && len(b) >= 64:
		e.Bits, at, size, count = 64, order.Uint64(b[32:]), uint64(order.Uint16(b[54:])), uint64(order.Uint16(b[56:]))
	case elf.Class(b[elf.EI_CLASS]) == elf.ELFCLASS32 && len(b) >= 52:
		e.Bits, at, size, count = 32, uint64(order.Uint32(b[28:])), uint64(order.Uint16(b[42:])), uint64(order.Uint16(b[44:]))
	default:
		return e
	}
	if size < 4 || at > uint64(len(b)) || size*count > uint64(len(b))-at {
		return e
	}
	e.Known = kind == elf.ET_EXEC || kind == elf.ET_DYN
	for range count {
		switch elf.ProgType(order.Uint32(b[at:])) {
		case elf.PT_INTERP:
			e.Dynamic = true
		case elf.PT_DYNAMIC:
			// A library has one and no interpreter; so does a static program that runs anywhere in memory.
			e.Dynamic = e.Dynamic || kind == elf.ET_DYN && !isProgram(b, order, e.Bits)
		}
		at += size
	}
	return e
}

// isProgram reports whether there is an address to start at, which libraries mostly do not have.
func isProgram(b []byte, order binary.ByteOrder, bits int) bool {
	if bits == 64 {
		return order.Uint64(b[24:]) != 0
	}
	return order.Uint32(b[24:]) != 0
}
