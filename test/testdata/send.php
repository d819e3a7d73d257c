<?php
// Sends one message with PHPMailer.
//
// usage: send.php HOST PORT plain|starttls USER PASSWORD FROM TO[,CC,BCC] MESSAGE
// MESSAGE is a file with CRLF line ends, sent as it is by PHPMailer's SMTP class; for
// three recipients it is the attachment of a message that PHPMailer composes, with
// To, Cc and Bcc.
require '/usr/share/php/libphp-phpmailer/autoload.php';

[, $host, $port, $mode, $user, $password, $from, $recipients, $path] = $argv;
$recipients = explode(',', $recipients);
$mailer = new PHPMailer\PHPMailer\PHPMailer(true);
$mailer->isSMTP();
$mailer->Host = $host;
$mailer->Port = (int) $port;
$mailer->Helo = 'client.test';
$mailer->Timeout = 60;
$mailer->SMTPAuth = true;
$mailer->Username = $user;
$mailer->Password = $password;
$mailer->SMTPAutoTLS = false;
$mailer->SMTPSecure = $mode === 'starttls' ? 'tls' : '';
$mailer->SMTPOptions = ['ssl' => ['verify_peer' => false, 'verify_peer_name' => false, 'allow_self_signed' => true]];

if (count($recipients) === 3) {
    $mailer->setFrom($from);
    $mailer->addAddress($recipients[0]);
    $mailer->addCC($recipients[1]);
    $mailer->addBCC($recipients[2]);
    $mailer->Subject = 'composed';
    $mailer->Body = 'See the attachment.';
    $mailer->addAttachment($path, 'message.bin');
    $mailer->send();
    exit(0);
}
$mailer->smtpConnect($mailer->SMTPOptions);
$smtp = $mailer->getSMTPInstance();
// The class ends what it sends by a line end of its own.
$content = preg_replace('/\r\n\z/', '', file_get_contents($path));
if (!$smtp->mail($from) || !$smtp->recipient($recipients[0]) || !$smtp->data($content)) {
    fwrite(STDERR, implode(' ', $smtp->getError()) . ' ' . $smtp->getLastReply() . "\n");
    exit(1);
}
$smtp->quit();
