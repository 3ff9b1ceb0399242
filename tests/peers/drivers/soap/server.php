<?php
// An rpc/encoded service with an array whose rows refer to what they share; for `php -S`.
function list_(string $key, int $page): array
{
    if ($key !== 's3cret') {
        throw new SoapFault('Client', '登录已过期');
    }
    if ($page > 2) {
        return [];
    }
    $party = new stdClass();
    $party->name = '测试 & 样例';
    $rows = [];
    for ($i = 0; $i < 2; $i++) {
        $row = new stdClass();
        $row->wsh = '测罚〔2026〕' . (($page - 1) * 2 + $i) . '号';
        $row->party = $party;
        $rows[] = $row;
    }
    return $rows;
}
$server = new SoapServer(null, ['uri' => 'urn:peers', 'soap_version' => SOAP_1_1]);
$server->addFunction('list_');
$server->handle();
