package cpu

import (
	"crypto/aes"
	"crypto/cipher"
)

// cmac is AES-CMAC (RFC 4493) under a 128-bit key. It is the MAC of REPORT and the
// function that derives keys, as on a real CPU.
func cmac(key [16]byte, message []byte) (mac [16]byte) {
	block := newAES(key)
	var subkey [16]byte
	block.Encrypt(subkey[:], subkey[:])
	subkey = double(subkey) // K1: for a last block that is complete

	for len(message) > len(mac) {
		xor(&mac, message[:len(mac)])
		block.Encrypt(mac[:], mac[:])
		message = message[len(mac):]
	}
	if len(message) < len(mac) {
		subkey = double(subkey) // K2: for a last block that is padded
		mac[len(message)] ^= 0x80
	}
	xor(&mac, message)
	xor(&mac, subkey[:])
	block.Encrypt(mac[:], mac[:])
	return mac
}

// double multiplies by x in GF(2^128), in constant time.
func double(b [16]byte) (d [16]byte) {
	for i := range d {
		d[i] = b[i] << 1
		if i+1 < len(b) {
			d[i] |= b[i+1] >> 7
		}
	}
	d[15] ^= 0x87 & -(b[0] >> 7)
	return d
}

func xor(dst *[16]byte, src []byte) {
	for i, v := range src {
		dst[i] ^= v
	}
}

// newAES cannot fail: the type of key fixes its length.
func newAES(key [16]byte) cipher.Block {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("cpu: a 16-byte AES key was refused: " + err.Error())
	}
	return block
}
