// Drives npm's sm-crypto by the protocol of driver.h.
const { createInterface } = require('node:readline')
const { sm2, sm3, sm4 } = require('sm-crypto')

const ORDERS = { c1c2c3: 0, c1c3c2: 1 }
const hex = (bytes) => Buffer.from(bytes).toString('hex')
const bytes = (text) => Array.from(Buffer.from(text, 'hex'))
// Keys are d‖04‖x‖y or 04‖x‖y.
const scalar = (key) => key.slice(0, -130)
const point = (key) => key.slice(-130)
const name = (id) => Buffer.from(id, 'hex').toString()

const sm4cbc = (key, iv) => [key, { mode: 'cbc', iv, output: 'array' }]

// The answer in hex, or null for a refusal.
function perform(act, given) {
  const [what, how] = act.split('-')
  switch (what) {
    case 'sm3':
      return sm3(bytes(given[0]))
    case 'hmac':
      return sm3(bytes(given[1]), { key: given[0] })
    case 'sign': {
      const [key, id, message] = given
      return sm2.doSignature(bytes(message), scalar(key), {
        hash: true, der: true, publicKey: point(key), userId: name(id),
      })
    }
    case 'verify': {
      const [key, id, message, signature] = given
      const options = { hash: true, der: true, userId: name(id) }
      return sm2.doVerifySignature(bytes(message), signature, point(key), options) ? '' : null
    }
    case 'seal':
      return '04' + sm2.doEncrypt(bytes(given[1]), point(given[0]), ORDERS[how])
    case 'open': {
      const opened = sm2.doDecrypt(given[1].slice(2), scalar(given[0]), ORDERS[how], { output: 'array' })
      return opened.length ? hex(opened) : null
    }
    case 'cbc': {
      const [key, iv, message] = given
      const crypt = how === 'seal' ? sm4.encrypt : sm4.decrypt
      return hex(crypt(bytes(message), ...sm4cbc(key, iv)))
    }
  }
  throw new Error(act)
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const [act, ...given] = line.split(' ')
  const answer = perform(act, given.map((one) => (one === '-' ? '' : one)))
  process.stdout.write((answer === null ? '!' : answer || '-') + '\n')
})
