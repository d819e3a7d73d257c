// Sends one message with nodemailer.
//
// usage: send.js HOST PORT plain|starttls USER PASSWORD FROM TO[,CC,BCC] MESSAGE
// MESSAGE is a file with CRLF line ends, sent as it is; for three recipients it is
// the attachment of a message that nodemailer composes, with To, Cc and Bcc.
const fs = require("fs");
const nodemailer = require("nodemailer");

const [host, port, mode, user, pass, from, recipients, path] = process.argv.slice(2);
const [to, cc, bcc] = recipients.split(",");
const transport = nodemailer.createTransport({
  host, port: Number(port), name: "client.test", secure: false,
  ignoreTLS: mode === "plain", requireTLS: mode === "starttls", tls: { rejectUnauthorized: false },
  auth: { user, pass },
});
const message = cc
  ? { from, to, cc, bcc, subject: "composed", text: "See the attachment.", attachments: [{ filename: "message.bin", path }] }
  : { envelope: { from, to }, raw: fs.createReadStream(path) };
transport.sendMail(message).then(
  () => transport.close(),
  (err) => { console.error(err.message); process.exit(1); });
