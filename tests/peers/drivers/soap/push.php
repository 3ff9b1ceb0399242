<?php
// Pushes by php-soap: WSDL PROFILE FEED TOKEN FILE. Prints what came back as JSON.
[, $wsdl, $profile, $feed, $token, $file] = $argv;
$rows = json_decode(file_get_contents($file), true);
$options = ['cache_wsdl' => WSDL_CACHE_NONE, 'features' => SOAP_SINGLE_ELEMENT_ARRAYS];
if ($profile !== 'records') {
    $options += ['login' => $feed, 'password' => $token];
}
$client = new SoapClient($wsdl, $options);
try {
    if ($profile === 'records') {
        $result = $client->submit(['token' => $token, 'record' => $rows])->result;
        $first = array_values(array_filter($result->finding, fn($one) => $one->level === 'error'))[0];
        $told = ['total' => $result->total, 'refused' => $result->refused, 'row' => $first->row,
            'rule' => $first->rule, 'signed' => $result->signature !== ''];
    } else {
        $said = json_decode($client->execute(json_encode(['tableCode' => 'T1', 'body' => $rows])), true);
        $refused = fn($row) => in_array('error', array_column($row['errors'], 'level'));
        $first = array_values(array_filter($said['errorBody'], $refused))[0];
        $told = ['total' => $said['totalSize'], 'refused' => $said['errorSize'], 'row' => $first['rowNum'],
            'rule' => $first['errors'][0]['rule'], 'signed' => $said['signature'] !== ''];
    }
    echo json_encode($told), "\n";
} catch (SoapFault $fault) {
    echo json_encode(['fault' => $fault->getMessage()], JSON_UNESCAPED_UNICODE), "\n";
}
